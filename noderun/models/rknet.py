"""RK-Net (Chen et al. 2018, table 1): the ODE-Net's net, through a fixed explicit Runge-Kutta method by backprop."""

from __future__ import annotations

from functools import partial

from noderun.models.block import MakeDynamics, Solve
from noderun.models.odenet import ODENet


class RKNet(ODENet):
    """``solve`` brings the method and its fixed step; the gradient is the one thing that makes it an RK-Net."""

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
        exact = partial(solve, gradient="backprop")
        super().__init__(shape, classes, make_dynamics, exact, stem=stem, width=width, t1=t1)
