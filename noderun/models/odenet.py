"""ODE-Net (Chen et al. 2018, section 3): a stem, one ODE block in place of all residual blocks, a head."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noderun.models.block import MakeDynamics, ODEBlock, Solve
from noderun.models.ends import make_head, make_stem


class ODENet(nn.Sequential):
    """Examples [B, *shape] to logits [B, classes]."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        make_dynamics: MakeDynamics,
        solve: Solve,
        *,
        stem: str = "conv",
        width: int = 64,
        t1: float = 1.0,
    ) -> None:
        first, state_shape = make_stem(stem, shape, width)
        block = ODEBlock(make_dynamics(state_shape), solve, t1)
        super().__init__(OrderedDict(stem=first, block=block, head=make_head(state_shape, classes)))
