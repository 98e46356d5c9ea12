"""RK-Net (Chen et al. 2018, table 1): the ODE-Net's net, through a fixed explicit Runge-Kutta method by backprop."""

from __future__ import annotations

from functools import partial
from typing import Any

from noderun.models.block import MakeDynamics, Solve
from noderun.models.odenet import ODENet


class RKNet(ODENet):
    """``solve`` brings the method and its fixed step; the gradient is the one thing that makes it an RK-Net."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int | None,
        make_dynamics: MakeDynamics,
        solve: Solve,
        **options: Any,
    ) -> None:
        super().__init__(shape, classes, make_dynamics, partial(solve, gradient="backprop"), **options)
