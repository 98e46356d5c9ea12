"""The base of all implicit methods: the work space of a solve, f at its current state, integrals beside it."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Self, TypeVar

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.extrapolation import Time
from noderun.ode.solvers.field import Field, Integrand
from noderun.ode.solvers.method import Info, Method, Quadrature, Snapshot, Step
from noderun.ode.solvers.newton import Newton, Weights
from noderun.ode.solvers.times import stage_times
from noderun.ode.solvers.torch_internals import under_transform

# Gauss's formula of order 6 on [0, 1], with the step's start as a node without weight; its error estimate is its
# distance from the formula of order 3 through the start and the outer two nodes.
NODES = (0.0, 0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5)
GAUSS = (0.0, 5 / 18, 8 / 18, 5 / 18)
GAUSS_ERROR = (2 / 3, -(5 + 15**0.5) / 9, 4 / 9, -(5 - 15**0.5) / 9)

STEADY = (0.9, 1.2)  # between these factors on h it stays as it is; HW II, IV.8


class Work:
    """The work space of a solve: ``slope`` is f at the current state, ``end`` f at the end of the current step."""

    def __init__(self, y: Tensor) -> None:
        if under_transform():
            raise TypeError("implicit solvers need numbers on the host, which torch.func transforms hide: use another")
        self.recording = torch.is_grad_enabled()
        self.slope: Tensor | None = None
        self.end: Tensor | None = None
        self.solver: Newton | None = None
        self.found: list[Tensor] = []  # the stages of the current step that Newton's iteration found
        self.given: list[Tensor] = []  # the stages of a step that is made again

    def solve(
        self,
        field: Field,
        control: StepOptions | None,
        t: Tensor,
        y: Tensor,
        times: Sequence[Time],
        base: Tensor,
        weights: Weights,
        guess: Tensor,
    ) -> Tensor:
        """Z [s, N], as ``Newton.solve`` finds it unless it is given; differentiable if the solve is recorded."""
        if self.solver is None:
            self.solver = Newton(field, control, y)
        if self.given:
            z = self.given.pop(0)
        else:
            z = self.solver.solve(field, t, y.detach(), times, base.detach(), weights, guess.detach())
            self.found.append(z)
        return self.solver.differentiable(field, times, base, weights, z) if self.recording else z


ImplicitWork = TypeVar("ImplicitWork", bound=Work)


class ImplicitMethod(Method[ImplicitWork]):
    """A method whose stages are solved for; a subclass makes its step in ``attempt``."""

    uses_newton = True
    control: StepOptions | None = None  # the tolerances that Newton's iteration follows; None: round-off

    def __init__(self, name: str, order: int, error_order: int, source: str, description: str) -> None:
        self.name, self.order, self.error_order = name, order, error_order
        self.info = Info(order, adaptive=error_order > 0, implicit=True, source=source, description=description)

    def with_tolerances(self, control: StepOptions) -> Self:
        method = copy.copy(self)
        method.control = control
        return method

    def factor(
        self, work: ImplicitWork, control: StepOptions, errors: tuple[float, float, float], retried: bool
    ) -> float:
        factor = super().factor(work, control, errors, retried)
        return steady(factor) if errors[0] <= 1 else factor

    @abstractmethod
    def attempt(self, field: Field, t: float, y: Tensor, h: float, work: ImplicitWork, estimate: bool) -> Step:
        """The step without integrals beside the state."""

    def step(self, field: Field, t: float, y: Tensor, h: float, work: ImplicitWork, estimate: bool) -> Step:
        work.found = []
        step = with_quadrature(field, self.attempt(field, t, y, h, work, estimate))
        step.newton_stages = work.found
        return step

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> ImplicitWork:
        work = self.start(y)
        work.given = list(newton_stages)
        return work

    def derivative(self, field: Field, t: float, y: Tensor, work: ImplicitWork) -> Tensor:
        return self.slope(field, t, y, work).detach()

    def slope(self, field: Field, t: float, y: Tensor, work: ImplicitWork) -> Tensor:
        """f(t, y) [N], with its graph if autograd records."""
        if work.slope is None:
            with torch.set_grad_enabled(work.recording):
                work.slope = field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y, False)
        return work.slope

    def accept(self, work: ImplicitWork) -> None:
        work.slope, work.end = work.end, None
        if work.solver is not None:
            work.solver.moved()

    def restart(self, work: ImplicitWork) -> None:
        work.slope = work.end = None
        if work.solver is not None:
            work.solver.moved()


def steady(factor: float) -> float:
    """The factor on h of an accepted step, 1 if it is nearly that: such a change is not worth new LU factors."""
    low, high = STEADY
    return 1.0 if low < factor < high else factor


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
