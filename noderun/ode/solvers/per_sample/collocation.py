"""Collocation steps of many samples, each with its own step size; see ``collocation`` and ``radau5``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.collocation import CollocationMethod
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.per_sample.batch import ratios
from noderun.ode.solvers.per_sample.implicit import BatchedNewtonMethod, column, steady
from noderun.ode.solvers.per_sample.newton import (
    NewtonState,
    SampleNewton,
    ScaledSystems,
    StageEquations,
    differentiable,
    unsolved,
)
from noderun.ode.solvers.per_sample.step import SampleStep, StepStart
from noderun.ode.solvers.radau5 import ERROR, GAMMA, LEAST_BEFORE
from noderun.ode.solvers.step_size import LEAST_RATIO


@dataclass
class CollocationState(NewtonState):
    """The last accepted step of each sample, whose polynomial predicts the stages of the next."""

    t: Tensor
    h: Tensor  # 0 if there was none yet
    y: Tensor  # [b, N]
    us: Tensor  # h k_i [b, s, N]
    retried: Tensor  # whether the last attempt was rejected; True before the first


class BatchedCollocation(BatchedNewtonMethod[CollocationState]):
    """All s stages solved at once: Z = h A F(y + Z), y1 = y + b^T A^-1 Z."""

    def __init__(self, method: CollocationMethod[Any], control: StepOptions, like: Tensor) -> None:
        self.tableau = method.tableau
        super().__init__(method.error_order, self.tableau.dense, control, like)
        self.a = torch.stack([self.row(row) for row in self.tableau.a])
        self.inverse = method.inverse.to(like)
        self.c = self.column(self.tableau.c)
        self.newton = SampleNewton(control, self.a)

    def start(self, y: Tensor) -> CollocationState:
        time = torch.zeros(len(y), dtype=torch.float64, device=y.device)
        us = y.new_zeros(len(y), len(self.tableau.c), y.shape[1])
        untried = torch.ones_like(time, dtype=torch.bool)
        return CollocationState(**vars(unsolved(y)), t=time, h=time, y=y, us=us, retried=untried)

    def step(self, start: StepStart, state: CollocationState, estimate: bool) -> SampleStep:
        step, equations = SampleStep(start, self.dense), self.equations(start)
        z, step.failed = self.newton.solve(state, equations, self.guess(start, state), torch.ones_like(state.known))
        self.finish(step, z)
        step.newton_stages = (z,)
        if estimate:
            self.estimate(start, step, z, state)
        return step

    def replay(self, start: StepStart, solved: Sequence[Tensor]) -> SampleStep:
        step = SampleStep(start, self.dense)
        self.finish(step, differentiable(self.equations(start), solved[0]))
        step.calls = len(self.tableau.c)
        return step

    def equations(self, start: StepStart) -> StageEquations:
        return StageEquations(start, start.times(self.c), start.y, self.a)

    def finish(self, step: SampleStep, z: Tensor) -> None:
        """The u_i without calling f again, which would amplify Newton's error, and y1."""
        step.us = list((self.inverse @ z).unbind(1))
        step.y1 = step.y + z[:, -1] if self.tableau.c[-1] == 1 else self.plus(step.y, self.tableau.b, step.us)

    def guess(self, start: StepStart, state: CollocationState) -> Tensor:
        """Z [b, s, N] from the polynomial of the step before, extrapolated, else 0; HW II, (IV.8.5)."""
        known = state.h > 0
        ahead = start.t.unsqueeze(1) + self.c.t() * start.h.unsqueeze(1) - state.t.unsqueeze(1)
        theta = ahead / torch.where(known, state.h, 1.0).unsqueeze(1)
        powers = torch.stack([theta ** (i + 1) for i in range(self.dense.shape[1])], dim=2)
        weights = (powers @ self.dense.t()).to(start.y.dtype)  # [b, s, s]
        there = state.y.unsqueeze(1) + weights @ state.us
        return torch.where(known.view(-1, 1, 1), there - start.y.unsqueeze(1), 0.0)

    def estimate(self, start: StepStart, step: SampleStep, z: Tensor, state: CollocationState) -> None:
        """The step's error, of methods that have an estimate."""

    def accept(self, step: SampleStep, state: CollocationState, accepted: Tensor) -> None:
        super().accept(step, state, accepted)
        moved = accepted.unsqueeze(1)
        state.t, state.h = torch.where(accepted, step.t, state.t), torch.where(accepted, step.h, state.h)
        state.y = torch.where(moved, step.y, state.y)
        state.us = torch.where(moved.unsqueeze(2), torch.stack(step.us, dim=1), state.us)

    def restart(self, state: CollocationState, at: Tensor) -> None:
        super().restart(state, at)
        state.h, state.retried = torch.where(at, 0.0, state.h), state.retried | at


class BatchedRadau5(BatchedCollocation):
    """Radau5 with the error estimate and the step size prediction of the code RADAU5."""

    history = True

    def __init__(self, method: CollocationMethod[Any], control: StepOptions, like: Tensor) -> None:
        super().__init__(method, control, like)
        self.real = ScaledSystems(self.row([GAMMA]).unsqueeze(1))

    def estimate(self, start: StepStart, step: SampleStep, z: Tensor, state: CollocationState) -> None:
        """(I - h gamma J)^-1 (h gamma f(t, y) + gamma sum_i e_i Z_i), again if it is large; HW II, IV.8."""
        y, scale = start.y, column(GAMMA * start.h, start.y)
        if step.slope is None:
            step.slope, step.calls = start.field(start.t, y), 1
        factors = self.real.at(start.h, state.matrix)
        combined = GAMMA * torch.einsum("s,bsn->bn", self.row(ERROR), z)

        def filtered(slope: Tensor) -> Tensor:
            return self.real.solve(factors, (combined + scale * slope).unsqueeze(1))[:, 0]

        error = filtered(step.slope)
        large = state.retried & (ratios(self.control, error, y, step.y1) > 1)
        if large.any():
            second = filtered(start.field(start.t, y + error))
            error = torch.where(large.unsqueeze(1), second, error)
            state.calls = state.calls + large
        step.errors = (error,)

    def factors(self, ratio: Tensor, errors: Tensor, step: SampleStep, state: CollocationState) -> Tensor:
        """Gustafsson's predictive controller, more careful the more iterations Newton needed; HW II, (IV.8.23-25)."""
        controller, limit = self.control.controller, self.newton.limit
        newest, before = ratio.clamp_min(LEAST_RATIO), errors[:, 0].clamp_min(LEAST_BEFORE)
        safety = controller.safety * (2 * limit + 1) / (2 * limit + state.iterations)
        known = state.h > 0
        predicted = step.h / torch.where(known, state.h, 1.0) * (before / newest) ** 0.25
        factor = safety * newest**-0.25 * torch.where(known, predicted, 1.0).clamp_max(1.0)
        return steady(factor.clamp(controller.min_factor, controller.max_factor), ratio)

    def accept(self, step: SampleStep, state: CollocationState, accepted: Tensor) -> None:
        super().accept(step, state, accepted)
        diverged = step.failed if step.failed is not None else torch.zeros_like(accepted)
        state.retried = torch.where(diverged, state.retried, ~accepted)
