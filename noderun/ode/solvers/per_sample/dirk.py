"""Diagonally implicit Runge-Kutta steps of many samples, each with its own step size; see ``dirk``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.extrapolation import NODES, Time, weights
from noderun.ode.solvers.per_sample.implicit import BatchedNewtonMethod, column
from noderun.ode.solvers.per_sample.newton import NewtonState, SampleNewton, StageEquations, differentiable, unsolved
from noderun.ode.solvers.per_sample.step import SampleStep, StepStart

Solve = Callable[[StageEquations], Tensor]  # Z [b, 1, N]


class BatchedDirk(BatchedNewtonMethod[NewtonState]):
    """One system of a sample's size per implicit stage."""

    def __init__(self, method: DiagonallyImplicit, control: StepOptions, like: Tensor) -> None:
        self.method, self.tableau, self.gamma = method, method.tableau, method.gamma
        super().__init__(method.error_order, self.tableau.dense, control, like)
        self.a = self.row([self.gamma]).unsqueeze(1)
        self.newton = SampleNewton(control, self.a)
        self.c = self.column(self.tableau.c)
        self.explicit = len(self.tableau.a[0]) == 0  # the first stage is f at the start

    def start(self, y: Tensor) -> NewtonState:
        return unsolved(y)

    def step(self, start: StepStart, state: NewtonState, estimate: bool) -> SampleStep:
        step, stages = SampleStep(start, self.dense), list[Tensor]()
        failed = torch.zeros_like(state.known)
        if step.slope is None and self.explicit:
            step.slope, step.calls = start.field(start.t, start.y), 1

        def solved(equations: StageEquations) -> Tensor:
            z, lost = self.newton.solve(state, equations, self.guess(step).unsqueeze(1), ~failed)
            failed.logical_or_(lost)
            stages.append(z)
            return z

        self.all_stages(start, step, solved)
        step.failed = failed
        step.newton_stages = (step.slope, *stages) if self.explicit and step.slope is not None else tuple(stages)
        if self.method.accurate:
            step.end = step.us[-1] / column(torch.where(start.h > 0, start.h, 1.0), start.y)
        if estimate and self.tableau.error:
            error = self.weighted(self.tableau.error, step.us)
            step.errors = (self.filtered(start.h, error, state) if self.method.filtered else error,)
        return step

    def guess(self, step: SampleStep) -> Tensor:
        """Z of the next stage from the slope that was last computed."""
        if step.us:
            return self.gamma * step.us[-1]
        return torch.zeros_like(step.y) if step.slope is None else step.slope * column(self.gamma * step.h, step.y)

    def filtered(self, h: Tensor, error: Tensor, state: NewtonState) -> Tensor:
        systems = self.newton.systems
        return systems.solve(systems.at(h, state.matrix), error.unsqueeze(1))[:, 0]

    def replay(self, start: StepStart, solved: Sequence[Tensor]) -> SampleStep:
        step, stages = SampleStep(start, self.dense), list(solved)
        step.calls = len(self.tableau.a)
        if self.explicit:  # the value that the step was made with, which Newton's last stage gave, and f's derivatives
            slope = start.field(start.t, start.y)
            step.slope = stages.pop(0) + (slope - slope.detach())
        self.all_stages(start, step, lambda equations: differentiable(equations, stages.pop(0)))
        return step

    def times(self, start: StepStart) -> list[Time]:
        """The stage times, extrapolated if they lie outside of the smooth part; see ``extrapolated_times``."""
        times: list[Time] = []
        for time, c in zip(start.times(self.c), self.tableau.c, strict=True):
            times.append(time)
            outside = start.field.bounds.beyond(start.t + start.h, start.t + c * start.h) if c > 1 else None
            if outside is not None and outside.any():
                nodes = start.times(self.column(NODES))
                parts = [column(outside, start.y) * weight for weight in weights(c)]
                times[-1] = [(column(~outside, start.y), time), *zip(parts, nodes, strict=True)]
        return times

    def all_stages(self, start: StepStart, step: SampleStep, solve: Solve) -> None:
        """All stages, the implicit ones by ``solve``, and y1."""
        y, h, tableau = start.y, start.h, self.tableau
        base = z = y
        for row, time in zip(tableau.a, self.times(start), strict=True):
            if len(row) == 0 and step.slope is not None:
                step.us.append(step.slope * column(h, y))
                continue
            base = self.plus(y, row[:-1], step.us) if step.us else y
            z = solve(StageEquations(start, (time,), base, self.a))[:, 0]
            step.us.append(z / self.gamma)
        step.y1 = base + z if self.method.accurate else self.plus(y, tableau.b, step.us)
