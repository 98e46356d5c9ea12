"""ODE-Net (Chen et al. 2018, section 3): a stem, one ODE block in place of all residual blocks, a head.

With ``augment`` it is the augmented neural ODE of Dupont et al. 2019: zero dimensions give the flow room to pass by.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from noderun.models.block import MakeDynamics, ODEBlock, Solve
from noderun.models.stem_head import Augment, make_head, make_stem


class ODENet(nn.Sequential):
    """Examples [B, *shape] to [B, outputs]; with head ``none`` to y(t1) without the augmented dimensions."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: Solve,
        *,
        stem: str | None = None,
        width: int = 64,
        augment: int = 0,
        t1: float = 1.0,
        head: str = "pool",
    ) -> None:
        first, (channels, *sizes) = make_stem(stem, shape, width)
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=first)
        if augment:
            parts["augment"] = Augment(augment)
        state_shape = (channels + augment, *sizes)
        parts["block"] = ODEBlock(make_dynamics(state_shape), solve, t1)
        parts["head"] = make_head(state_shape, outputs, head, channels)
        super().__init__(parts)
