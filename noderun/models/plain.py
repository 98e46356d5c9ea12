"""The residual net without its skips: what depth costs when nothing is added (He et al. 2016)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noderun.models.resnet import residual_blocks
from noderun.models.stem_head import make_head, make_stem


class PlainNet(nn.Sequential):
    """Examples [B, *shape] to [B, outputs]."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, *, stem: str | None = None, width: int = 64, blocks: int = 6
    ) -> None:
        first, state_shape = make_stem(stem, shape, width)
        body = residual_blocks(state_shape, blocks, skip=False)
        super().__init__(OrderedDict(stem=first, blocks=body, head=make_head(state_shape, outputs)))
