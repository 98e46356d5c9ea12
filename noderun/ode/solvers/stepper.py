"""One solve under way: choose a step, try it, accept or reject it, count, and raise what went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.control import Callback, StepOptions
from noderun.ode.solvers.errors import NewtonDivergence, NonFiniteDynamics, SolveError, StepLimit, StepUnderflow
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Method, Step
from noderun.ode.solvers.step_size import AFTER_DIVERGENCE, AFTER_NONFINITE, REJECTED, clip, is_accepted, next_size
from noderun.ode.solvers.times import smooth_parts
from noderun.ode.solvers.torch_internals import under_transform

OnStep = Callable[[Step, float], None]  # the accepted step and the time it ends at


class Stepper:
    """The state y [N] at t of a solve under way; ``advance`` moves it, ``jump`` replaces it."""

    def __init__(self, method: Method[Any], field: Field, control: StepOptions, t: float, y: Tensor) -> None:
        control = control.fitted(y.detach())
        self.method, self.field, self.control = method.with_tolerances(control), field, control
        self.t, self.y = t, y
        self.work = self.method.start(y)
        self.past = self.method.snapshot(self.work)  # what the current step started from besides y
        self.least = torch.finfo(y.dtype).tiny  # of what a step size may be
        self.h: float | None = None  # the step size to try next, signed
        self.errors = (1.0, 1.0, 1.0)  # error ratios of accepted steps, newest first
        self.accepted = self.rejected = 0
        self.quadrature_ratio: Callable[[Step], float] | None = None  # of an integral beside the state
        self.stopped = False  # set from outside to end the solve after the current step
        self.retried = False  # whether the last attempt was rejected
        self.nonfinite = False  # and because it met NaN or infinity
        self.diverged = False  # or because Newton's iteration did not converge
        if not control.fixed and under_transform():
            raise TypeError("adaptive steps need numbers on the host, which torch.func transforms hide; give dt=")

    def advance(self, t_end: float, on_step: OnStep | None = None) -> None:
        """Integrate from t to t_end exactly, calling ``on_step`` after each accepted step; f may jump on the way."""
        for stop, start in smooth_parts(self.control.jumps, self.t, t_end, self.y.dtype.to_real()):
            if self.control.fixed and self.t != stop:
                self.take_fixed_steps(stop, on_step)
            while self.t != stop and not self.stopped:
                self.try_step(stop, on_step)
            if self.stopped:
                return
            if start is not None:
                self.t = start
                self.restart()

    def jump(self, y: Tensor) -> None:
        """Go on from another state at the same t; the step size is kept unless it rests on past steps."""
        self.y = y
        self.restart()

    def restart(self) -> None:
        self.method.restart(self.work)
        if self.method.multistep:
            self.h = None

    def take_fixed_steps(self, t_end: float, on_step: OnStep | None) -> None:
        """Steps of dt, or along the grid."""
        for t_next in self.control.steps(self.t, t_end):
            if self.accepted >= self.control.max_steps:
                raise self.failure(StepLimit, f"max_steps = {self.control.max_steps} steps did not reach the end")
            h = t_next - self.t
            self.notify(self.control.before, h)
            self.past = self.method.snapshot(self.work)
            try:
                step = self.method.step(self.field, self.t, self.y, h, self.work, False)
            except NewtonDivergence:
                self.require_finite()
                raise self.failure(NewtonDivergence, f"Newton's iteration diverged: dt = {h:g} is too large") from None
            self.accept(step, t_next, on_step)
            if self.stopped:
                return

    def try_step(self, t_end: float, on_step: OnStep | None) -> None:
        """One attempt, as large as the tolerance allows, and the step size to try after it."""
        h = self.initial_step(t_end) if self.h is None else self.h
        h = h if self.method.internal_stepping else self.control.limited(h)
        self.check(h)
        size = math.copysign(clip(abs(h), abs(t_end - self.t))[0], h)
        self.notify(self.control.before, size)
        self.past = self.method.snapshot(self.work)
        try:
            step = self.method.step(self.field, self.t, self.y, size, self.work, True)
        except NewtonDivergence:
            self.reject(size, None)
            return
        self.decide(step, h, size, self.error_ratio(step), t_end, on_step)

    def error_ratio(self, step: Step) -> float:
        """The step's error in units of the tolerance: the larger of the state's and of the integral's beside it."""
        ratio = self.method.ratio(self.work, self.control, step)
        if self.quadrature_ratio is None:
            return ratio
        beside = self.quadrature_ratio(step)
        return beside if math.isnan(beside) else max(ratio, beside)

    def decide(self, step: Step, h: float, size: float, ratio: float, t_end: float, on_step: OnStep | None) -> None:
        """Accept or reject a step tried with h cut to ``size``, by its error in units of the tolerance."""
        if not is_accepted(ratio, abs(size), self.control.min_step):
            self.reject(size, ratio)
            return
        self.errors = (ratio, *self.errors[:2])
        factor = self.method.factor(self.work, self.control, self.errors, self.retried)
        self.h = math.copysign(next_size(abs(h), abs(size), factor), h)
        self.accept(step, t_end if step.h == t_end - self.t else self.t + step.h, on_step)

    def initial_step(self, t_end: float) -> float:
        span = t_end - self.t
        if self.method.internal_stepping:
            return span
        if self.control.first_step is not None:
            return math.copysign(self.control.first_step, span)
        return self.method.first_size(self.field, self.control, self.t, self.y, span, self.work)

    def accept(self, step: Step, t_next: float, on_step: OnStep | None) -> None:
        self.accepted += 1
        self.retried = self.nonfinite = self.diverged = False
        self.notify(self.control.accepted, step.h)
        self.t, self.y = t_next, step.y1
        if on_step is not None:
            on_step(step, t_next)
        self.method.accept(self.work)

    def reject(self, size: float, ratio: float | None) -> None:
        """Choose the step size to try after a failed attempt; ``ratio`` None: Newton's iteration diverged."""
        self.rejected += 1
        self.retried = True
        self.notify(self.control.rejected, size)
        if ratio is not None and math.isfinite(ratio):
            factor = self.method.factor(self.work, self.control, (ratio, *self.errors[:2]), self.retried)
            self.h = size * min(REJECTED, factor)
            return
        self.require_finite()
        smallest = abs(size) <= self.control.min_step
        if ratio is None:
            if smallest:
                raise self.failure(NewtonDivergence, f"Newton's iteration diverged at min_step = {abs(size):g}")
            self.diverged, self.h = True, size * AFTER_DIVERGENCE
        else:
            if smallest:
                what = f"f returned NaN or infinity within a step of min_step = {abs(size):g}"
                raise self.failure(NonFiniteDynamics, what)
            self.nonfinite, self.h = True, size * AFTER_NONFINITE

    def notify(self, callback: Callback | None, h: float) -> None:
        if callback is not None:
            callback(self.t, self.y, h)

    def require_finite(self) -> None:
        if not torch.isfinite(self.method.derivative(self.field, self.t, self.y, self.work)).all():
            raise self.failure(NonFiniteDynamics, "f returned NaN or infinity")

    def check(self, h: float) -> None:
        """Raise a SolveError if another attempt makes no sense."""
        if self.accepted + self.rejected >= self.control.max_steps:
            raise self.failure(StepLimit, f"max_steps = {self.control.max_steps} steps did not reach the end")
        if not abs(h) > 4 * math.ulp(self.t) or abs(h) < self.least or (math.isinf(h) and self.nonfinite):
            self.require_finite()
            if self.nonfinite or math.isnan(h):
                raise self.failure(NonFiniteDynamics, "f returned NaN or infinity at every step size")
            if self.diverged:
                raise self.failure(NewtonDivergence, f"Newton's iteration diverged down to a step size of {abs(h):.1e}")
            raise self.failure(StepUnderflow, f"the step size fell to {abs(h):.1e}: the tolerance cannot be met")

    def failure(self, kind: type[SolveError], what: str) -> SolveError:
        where = f"t = {self.t:.6g}, after {self.accepted} steps"
        return kind(f"{what} ({where}): {kind.remedy}", self.t, self.accepted)
