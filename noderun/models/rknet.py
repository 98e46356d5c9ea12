"""RK-Net (Chen et al. 2018, table 1): the ODE-Net's net, through a fixed explicit Runge-Kutta method by backprop."""

from __future__ import annotations

from functools import partial

from noderun import engine
from noderun.models.block import MakeDynamics, Solve
from noderun.models.odenet import ODENet


class RKNet(ODENet):
    """Brings its own solve: another integrator as well as another gradient is what the paper compares."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        make_dynamics: MakeDynamics,
        solve: Solve | None = None,
        *,
        stem: str = "conv",
        width: int = 64,
        t1: float = 1.0,
        method: str = "rk4",
        steps: int = 4,
    ) -> None:
        fixed = partial(engine.solve, solver=method, dt=t1 / steps, gradient="backprop")
        super().__init__(shape, classes, make_dynamics, fixed, stem=stem, width=width, t1=t1)
