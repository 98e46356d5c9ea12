"""What all implicit methods share: the work space of a solve and f at its current state."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, Integrand
from noderun.ode.solvers.method import Info, Method, Quadrature, Step
from noderun.ode.solvers.newton import Newton
from noderun.ode.solvers.times import stage_times
from noderun.ode.solvers.torch_internals import under_transform

# Gauss's formula of order 6 on [0, 1], with the step's start as a node of no weight; and how far it is from the formula
# of order 3 through the start and the outer two nodes, its error estimate.
NODES = (0.0, 0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5)
GAUSS = (0.0, 5 / 18, 8 / 18, 5 / 18)
GAUSS_ERROR = (2 / 3, -(5 + 15**0.5) / 9, 4 / 9, -(5 - 15**0.5) / 9)


class Work:
    """What a solve carries along; ``slope`` is f at the current state, ``end`` f at the end of the step in hand."""

    def __init__(self, y: Tensor) -> None:
        if under_transform():
            raise TypeError("implicit solvers need numbers on the host, which torch.func transforms hide: use another")
        self.recording = torch.is_grad_enabled()
        self.slope: Tensor | None = None
        self.end: Tensor | None = None
        self.solver: Newton | None = None
        self.given: list[Tensor] = []

    def newton(self, field: Field, control: StepOptions | None, y: Tensor) -> Newton:
        if self.solver is None:
            self.solver = Newton(field, control, y)
            self.solver.given = self.given
        return self.solver


class ImplicitMethod(Method):
    """A one-step method whose stages are solved for; subclasses say how."""

    uses_newton = True
    control: StepOptions | None = None  # the tolerances that Newton's iteration follows; None: round-off

    def __init__(self, name: str, order: int, error_order: int, source: str, description: str) -> None:
        self.name, self.order, self.error_order = name, order, error_order
        self.info = Info(
            order=order,
            adaptive=error_order > 0,
            fixed_step=True,
            implicit=True,
            reversible=False,
            symplectic=False,
            source=source,
            description=description,
        )

    def with_tolerances(self, control: StepOptions) -> Method:
        method = copy.copy(self)
        method.control = control
        return method

    def factor(self, work: Work, control: StepOptions, errors: tuple[float, float, float], retried: bool) -> float:
        factor = super().factor(work, control, errors, retried)
        return steady(factor) if errors[0] <= 1 else factor

    def start(self, y: Tensor) -> Work:
        return Work(y)

    def derivative(self, field: Field, t: float, y: Tensor, work: Work) -> Tensor:
        return self.slope(field, t, y, work).detach()

    def slope(self, field: Field, t: float, y: Tensor, work: Work) -> Tensor:
        """f(t, y) [N], with its graph where one is recorded."""
        if work.slope is None:
            with torch.set_grad_enabled(work.recording):
                work.slope = field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y, False)
        return work.slope

    def begin_attempt(self, work: Work) -> None:
        if work.solver is not None:
            work.solver.found = []

    def newton_stages(self, work: Work) -> list[Tensor]:
        return work.solver.found if work.solver is not None else []

    def reuse_stages(self, work: Work, stages: list[Tensor]) -> None:
        work.given = list(stages)

    def accept(self, work: Work) -> None:
        work.slope, work.end = work.end, None
        if work.solver is not None:
            work.solver.moved()

    def restart(self, work: Work) -> None:
        work.slope = work.end = None
        if work.solver is not None:
            work.solver.moved()


def steady(factor: float) -> float:
    """The factor on h of an accepted step, or 1: a small change is not worth new LU factors; HW II, IV.8."""
    return 1.0 if 0.9 < factor < 1.2 else factor


def with_quadrature(field: Field, step: Step) -> Step:
    """The step with the integrals beside the state, by Gauss's formula on the continuous extension."""
    if field.has_quadrature:
        first = 1 if step.error is None else 0  # the start counts in the estimate alone
        nodes = NODES[first:]
        times = stage_times(step.t, step.h, nodes, step.y, field.bounds)
        points = zip(times, step.interpolate(nodes), strict=True)
        integrands = [weighed(field, t, y) for t, y in points]
        step.quadrature = Quadrature.of(integrands, GAUSS[first:], () if first else GAUSS_ERROR, step.h)
    return step


def weighed(field: Field, t: Tensor, y: Tensor) -> Integrand | None:
    field(t, y, True)
    return field.integrand


def combine(y: Tensor, rows: Sequence[Sequence[float]], ks: Sequence[Tensor]) -> Tensor:
    """y + sum_j rows_ij k_j [n, N]."""
    weights = torch.tensor(rows, dtype=y.dtype).to(y.device, non_blocking=True)
    return y + weights @ torch.stack(list(ks))
