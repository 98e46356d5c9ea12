"""Stem and head with no depth between: how much of the task needs the block at all."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noderun.models.stem_head import make_head, make_stem


class StemHead(nn.Sequential):
    """Examples [B, *shape] to [B, outputs]."""

    def __init__(self, shape: tuple[int, ...], outputs: int, *, stem: str | None = None, width: int = 64) -> None:
        first, state_shape = make_stem(stem, shape, width)
        super().__init__(OrderedDict(stem=first, head=make_head(state_shape, outputs)))
