"""Rosenbrock steps of many samples, each with its own step size; see ``rosenbrock``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.per_sample.implicit import BatchedImplicitMethod, column
from noderun.ode.solvers.per_sample.newton import ScaledSystems, jacobians_of
from noderun.ode.solvers.per_sample.step import BatchedState, SampleStep, StepStart
from noderun.ode.solvers.rosenbrock import Rosenbrock, time_derivative


class BatchedRosenbrock(BatchedImplicitMethod[BatchedState]):
    """One linear system per stage, with the exact J and df/dt at the start of every step."""

    def __init__(self, method: Rosenbrock, control: StepOptions, like: Tensor) -> None:
        self.tableau = method.tableau
        super().__init__(method.error_order, self.tableau.dense, control, like)
        self.alpha = self.column(self.tableau.alpha)
        self.systems = ScaledSystems(self.row([self.tableau.gamma]).unsqueeze(1))

    def start(self, y: Tensor) -> BatchedState:
        return BatchedState.counted(y)

    def step(self, start: StepStart, state: BatchedState, estimate: bool) -> SampleStep:
        step = self.all_stages(start)
        state.jacobians = state.jacobians + 1
        if estimate:
            step.errors = (self.weighted(self.tableau.error, step.us),)
        return step

    def replay(self, start: StepStart, solved: Sequence[Tensor]) -> SampleStep:
        return self.all_stages(start)

    def all_stages(self, start: StepStart) -> SampleStep:
        tableau, y, h = self.tableau, start.y, start.h
        step = SampleStep(start, self.dense)
        if step.slope is None:
            step.slope, step.calls = start.field(start.t, y), 1
        matrix, rate = self.linearized(start)
        if rate is None:
            rate, step.calls = self.difference(start, step.slope), step.calls + 1
        rate = torch.where((h != 0).unsqueeze(1), rate, 0.0)  # NaN may stand behind the end of a failed sample
        times = start.times(self.alpha)
        factors, slope, gamma = self.systems.at(h, matrix), step.slope, tableau.gamma
        for i, (row, time) in enumerate(zip(tableau.a, times, strict=True)):
            if i > 0:
                slope, step.calls = start.field.called(time, self.plus(y, row, step.us)), step.calls + 1
            right = column(gamma * h, y) * slope + column(gamma * tableau.slopes[i] * h**2, y) * rate
            if i > 0:
                right = self.plus(right, [gamma * c for c in tableau.c[i]], step.us)
            step.us.append(self.systems.solve(factors, right.unsqueeze(1))[:, 0])
        step.end = slope if tableau.fsal else None
        step.y1 = self.plus(y, tableau.m, step.us)
        return step

    def linearized(self, start: StepStart) -> tuple[Tensor, Tensor | None]:
        """J [b, N, N] and df/dt [b, N] (None: out of autograd's sight) at the start, part of the solution's graph."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            time = start.field.within(start.t).clone().requires_grad_()
            point = start.y if graph and start.y.requires_grad else start.y.detach().requires_grad_()
            value = start.field.called(time, point)
            matrix, rate = jacobians_of(value, point, graph), time_derivative(value, time, graph)
        return matrix if graph else matrix.detach(), rate

    def difference(self, start: StepStart, slope: Tensor) -> Tensor:
        """df/dt [b, N] by a forward difference: exactly 0 if f does not use t."""
        now, h = start.field.within(start.t), start.h.to(start.y.dtype.to_real())
        delta = (torch.finfo(h.dtype).eps ** 0.5 * torch.maximum(now.abs(), h)).minimum(h)  # the step's end is inside
        later = start.field.within(now + delta)
        span = torch.where(later > now, later - now, 1.0)
        return (start.field.called(later, start.y) - slope) / span.unsqueeze(1)
