"""scipy's solvers as a reference: its step control, its dense output, f from here; on the host in double precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.errors import StepUnderflow
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.implicit import with_quadrature
from noderun.ode.solvers.method import Info, Method, Step
from noderun.ode.solvers.times import stage_times

NAMES = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")


class ScipyWork:
    """scipy's own solver of the current interval."""

    def __init__(self) -> None:
        self.solver: Any = None


class Scipy(Method[ScipyWork]):
    """``method`` is one of scipy.integrate.solve_ivp's; the attempts that it rejects count in the NFE alone."""

    name = "scipy"
    internal_stepping = True
    order = error_order = 1

    def __init__(self, method: str = "RK45", control: StepOptions | None = None) -> None:
        self.method, self.control = method, control
        self.info = Info(
            adaptive=True,
            fixed_step=False,
            implicit=method in ("Radau", "BDF", "LSODA"),
            source="scipy.integrate.solve_ivp: " + ", ".join(NAMES),
            description="scipy's solvers as a reference, on the host; gradient by adjoint only",
        )

    def with_options(self, method: str | None = None, **options: Any) -> Scipy:
        super().with_options(**options)
        if method is None:
            return self
        if method not in NAMES:
            raise ValueError(f"solver 'scipy' has no method {method!r}; there are {', '.join(NAMES)}")
        return Scipy(method)

    def with_tolerances(self, control: StepOptions) -> Scipy:
        return Scipy(self.method, control)

    def start(self, y: Tensor) -> ScipyWork:
        return ScipyWork()

    def derivative(self, field: Field, t: float, y: Tensor, work: ScipyWork) -> Tensor:
        return field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y)

    def step(self, field: Field, t: float, y: Tensor, h: float, work: ScipyWork, estimate: bool) -> Step:
        """One of scipy's own steps from t towards t + h."""
        if work.solver is None or work.solver.t_bound != t + h:
            work.solver = self.solver(field, t, y, t + h)
        solver = work.solver
        message = solver.step()
        if solver.status == "failed":
            raise StepUnderflow(f"scipy's {self.method} failed: {message} (t = {t:.6g})", t, 0)
        size = float(solver.t) - t
        known: list[Any] = []  # the dense output, made when it is first asked for

        def interpolate(thetas: Sequence[float]) -> Tensor:
            if not known:
                known.append(solver.dense_output())
            return tensor(known[0]([t + x * size for x in thetas]).T, y)

        y1 = tensor(solver.y, y)
        return with_quadrature(field, Step(t, size, y, y1, torch.zeros_like(y), interpolate))

    def solver(self, field: Field, t: float, y: Tensor, t_end: float) -> Any:
        from scipy import integrate

        def f(time: float, state: Any) -> Any:
            return (
                field(stage_times(time, 0.0, (0.0,), y, field.bounds)[0], tensor(state, y)).cpu().to(exact(y)).numpy()
            )

        control = self.control or StepOptions()
        rtol, atol = (x.cpu().numpy() if isinstance(x, Tensor) else x for x in (control.rtol, control.atol))
        start = y.detach().cpu().to(exact(y)).numpy()
        first = control.first_step and min(control.first_step, abs(t_end - t))
        limits = {"max_step": control.max_step} | ({"min_step": control.min_step} if self.method == "LSODA" else {})
        return getattr(integrate, self.method)(f, t, start, t_end, rtol=rtol, atol=atol, first_step=first, **limits)

    def factor(self, work: ScipyWork, control: StepOptions, errors: tuple[float, float, float], retried: bool) -> float:
        return math.inf  # as far as there is to go; scipy's own step is smaller

    def accept(self, work: ScipyWork) -> None:
        pass

    def restart(self, work: ScipyWork) -> None:
        work.solver = None


def tensor(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(values).to(like)


def exact(y: Tensor) -> torch.dtype:
    return torch.complex128 if y.is_complex() else torch.float64


METHOD = Scipy()
