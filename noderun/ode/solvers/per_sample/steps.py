"""The attempts of a batch and what follows from each, as functions of tensors: the host reads no number here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.per_sample.attempt import Attempt, accept_or_reject, after_no_number, failure_code
from noderun.ode.solvers.per_sample.batch import first_batch, first_sizes, fixed_end
from noderun.ode.solvers.per_sample.field import BatchedField
from noderun.ode.solvers.per_sample.methods import batched_method
from noderun.ode.solvers.per_sample.problem import DONE, EVENT_NAN, NONFINITE, RUNNING, SampleProblem
from noderun.ode.solvers.per_sample.step import StepStart, as_column
from noderun.ode.solvers.step_size import AFTER_REJECTION, REJECTED, clip, next_size


class SampleSteps:
    """The samples of a problem that are under way: ``batch``."""

    def __init__(self, problem: SampleProblem) -> None:
        self.problem, self.control = problem, problem.control
        self.estimate = not problem.control.fixed
        self.method = batched_method(problem.method, problem.control, problem.y0)
        self.state = self.method.start(problem.y0)
        self.field: BatchedField = problem.field.of(None)
        self.batch = first_batch(problem.y0.detach(), problem.ts, problem.field.sign, self.control, len(problem.events))
        self.known = False  # whether batch.slope is f(t, y)

    def begin(self) -> None:
        """f at the start, and the first step sizes."""
        batch = self.batch
        batch.slope, self.known = self.field(batch.t, batch.y), True
        sizes = first_sizes(self.control, self.field, batch, batch.slope, self.problem.method.error_order)
        batch.h = torch.where(batch.live, sizes, 0.0)

    def attempt(self) -> Attempt:
        batch, control = self.batch, self.control
        if self.estimate:
            if control.min_step > 0 or control.max_step < math.inf:
                batch.h = batch.h.clamp(control.min_step, control.max_step)
            h, whole = clip(batch.h, batch.stop - batch.t)
            t1 = torch.where(whole, batch.stop, batch.t + h)
        else:
            t1 = fixed_end(control.dt, batch)
            h = t1 - batch.t
        start = StepStart(self.field, batch.t, batch.y, h, batch.slope if self.known else None)
        return accept_or_reject(self.method.step(start, self.state, self.estimate), t1, batch, control)

    def advance(self, attempt: Attempt) -> None:
        """Move the samples whose step was accepted, and choose every sample's next step size."""
        batch, step, accepted, ratio = self.batch, attempt.step, attempt.accepted, attempt.ratio
        moved, controller = as_column(accepted, step.y), self.control.controller
        if ratio is not None:
            factor = self.method.factors(ratio, batch.errors, step, self.state)
            factor = factor.minimum(torch.where(accepted, batch.cap, REJECTED))
            batch.h = next_size(batch.h, step.h, factor, accepted)
            batch.cap = torch.where(accepted, controller.max_factor, AFTER_REJECTION)
            if controller.proportional or controller.derivative or self.method.history:
                latest = torch.stack([ratio, batch.errors[:, 0]], dim=1)
                batch.errors = torch.where(accepted.unsqueeze(1), latest, batch.errors)
        self.method.accept(step, self.state, accepted)
        self.known = step.end is not None
        if step.end is not None:
            batch.slope = torch.where(moved, step.end, batch.slope if step.slope is None else step.slope)
        batch.t, batch.y = torch.where(accepted, attempt.t1, batch.t), torch.where(moved, step.y1, batch.y)
        batch.steps = batch.steps + accepted

    def arrived(self, attempt: Attempt, code: Tensor | int) -> Tensor:
        """The code [b] of each sample, after that of a failure: DONE if the attempt has reached its end."""
        end = self.batch.end
        there = attempt.accepted & (attempt.t1 == end) & (code != EVENT_NAN)
        return torch.where(there, torch.where(end < torch.inf, DONE, NONFINITE), code)

    def judged(self) -> tuple[Attempt, Tensor]:
        """An attempt with all that can follow from it, and the code [b] of each sample that it ends, else RUNNING."""
        attempt, batch = self.attempt(), self.batch
        assert attempt.step.slope is not None
        failure = failure_code(attempt, attempt.step.slope, batch, self.control.min_step)
        self.advance(attempt)
        code = torch.where(batch.live, self.arrived(attempt, failure), RUNNING)
        batch.live, h = batch.live & (code == RUNNING), after_no_number(batch.h, attempt)
        batch.h = torch.where(batch.live, h, 0.0)
        return attempt, code


def calls_at_start(control: StepOptions) -> int:
    """The calls of f that choose a first step size."""
    return 1 if control.first_step is not None else 2
