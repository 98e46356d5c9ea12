"""Walks one solution along t: chooses steps, accepts or rejects them, counts, and says where it failed."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from noderun.ode.solvers.control import Callback, StepOptions
from noderun.ode.solvers.errors import NewtonDivergence, NonFiniteDynamics, SolveError, StepLimit, StepUnderflow
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Method, Step
from noderun.ode.solvers.times import split_at_jump, times_inside
from noderun.ode.solvers.torch_internals import under_transform

OnStep = Callable[[Step, float], None]  # the accepted step and the time it ends at


class Stepper:
    """The state y [N] at t of a solve under way; ``advance`` moves it, ``jump`` replaces it."""

    def __init__(self, method: Method, field: Field, control: StepOptions, t: float, y: Tensor) -> None:
        control = control.fitted(y.detach())
        self.method, self.field, self.control = method.with_tolerances(control), field, control
        self.t, self.y = t, y
        self.work = self.method.start(y)
        self.past = self.method.snapshot(self.work)  # what the step in hand started from beside y
        self.least = torch.finfo(y.dtype).tiny  # of what a step size may be
        self.h: float | None = None  # the step size to try next, signed
        self.errors = (1.0, 1.0, 1.0)  # error ratios of accepted steps, newest first
        self.accepted = self.rejected = 0
        self.quadrature_ratio: Callable[[Step], float] | None = (
            None  # the error ratio of what is integrated beside the state
        )
        self.stopped = False  # set from outside to end the way after the step in hand
        self.retried = False  # whether the last attempt was rejected
        self.nonfinite = False  # and because it met NaN or infinity
        self.diverged = False  # or because Newton's iteration did not converge
        if not control.fixed and under_transform():
            raise TypeError("adaptive steps need numbers on the host, which torch.func transforms hide; give dt=")

    def advance(self, t_end: float, on_step: OnStep | None = None) -> None:
        """Integrate from t to t_end exactly, calling ``on_step`` after each accepted step."""
        for jump in times_inside(self.control.jumps, self.t, t_end):
            before, after = split_at_jump(jump, self.t, t_end, self.y.dtype.to_real())
            self.smooth(before, on_step)
            if self.stopped:
                return
            self.t = after
            self.restart()
        self.smooth(t_end, on_step)

    def smooth(self, t_end: float, on_step: OnStep | None) -> None:
        """The same where f has no jump on the way."""
        if t_end == self.t:
            return
        if self.control.fixed:
            self.fixed(t_end, on_step)
        else:
            self.adaptive(t_end, on_step)

    def jump(self, y: Tensor) -> None:
        """Go on from another state at the same t; the step size is kept where it does not rest on past steps."""
        self.y = y
        self.restart()

    def restart(self) -> None:
        self.method.restart(self.work)
        if self.method.multistep:
            self.h = None

    def fixed(self, t_end: float, on_step: OnStep | None) -> None:
        """Steps of dt, or along the grid."""
        for t_next in self.control.steps(self.t, t_end):
            if self.accepted >= self.control.max_steps:
                raise self.failure(StepLimit, f"max_steps = {self.control.max_steps} steps did not reach the end")
            h = t_next - self.t
            self.tell(self.control.before, h)
            try:
                step = self.step(h, estimate=False)
            except NewtonDivergence:
                self.require_finite()
                raise self.failure(NewtonDivergence, f"Newton's iteration diverged: dt = {h:g} is too large") from None
            self.take(step, t_next, on_step)
            if self.stopped:
                return

    def adaptive(self, t_end: float, on_step: OnStep | None) -> None:
        """Steps as large as the tolerance allows; the last one is cut to end at t_end."""
        while self.t != t_end and not self.stopped:
            self.go_on(t_end, on_step)

    def go_on(self, t_end: float, on_step: OnStep | None) -> None:
        """One attempt, and the step size to try after it."""
        h = self.first(t_end) if self.h is None else self.h
        h = h if self.method.internal_stepping else self.control.limited(h)
        self.check(h)
        clipped = self.clip(h, t_end)
        self.tell(self.control.before, clipped)
        step = self.attempt(clipped)
        if step is None or step.error is None:
            self.h = self.halve(clipped)
        else:
            self.judge(step, h, clipped, self.ratio(step), t_end, on_step)

    def ratio(self, step: Step) -> float:
        """The step's error in units of the tolerance: the larger of the state's and of what goes beside it."""
        ratio = self.method.ratio(self.work, self.control, step)
        if self.quadrature_ratio is None:
            return ratio
        beside = self.quadrature_ratio(step)
        return beside if math.isnan(beside) else max(ratio, beside)

    def judge(self, step: Step, h: float, clipped: float, ratio: float, t_end: float, on_step: OnStep | None) -> None:
        """Take a step tried with h cut to ``clipped``, or not, by its error in units of the tolerance."""
        if ratio <= 1 or (abs(clipped) <= self.control.min_step and math.isfinite(ratio)):
            self.errors = (ratio, *self.errors[:2])
            grown = clipped * self.factor(self.errors)
            # A step that was cut short says little about the size that the tolerance allows.
            self.h = max(h, grown, key=abs) if abs(clipped) < abs(h) else grown
            self.take(step, t_end if step.h == t_end - self.t else self.t + step.h, on_step)
        else:
            self.h = self.reject(clipped, ratio)

    def first(self, t_end: float) -> float:
        span = t_end - self.t
        if self.method.internal_stepping:
            return span
        if self.control.first_step is not None:
            return math.copysign(self.control.first_step, span)
        return self.method.first_size(self.field, self.control, self.t, self.y, span, self.work)

    def clip(self, h: float, t_end: float) -> float:
        """h, or what is left to t_end; a sliver is never left for a step of its own."""
        left = t_end - self.t
        if abs(h) >= abs(left) * (1 - 1e-10):
            return left
        return left / 2 if abs(h) > 0.9 * abs(left) else h

    def factor(self, errors: tuple[float, float, float]) -> float:
        return self.method.factor(self.work, self.control, errors, self.retried)

    def take(self, step: Step, t_next: float, on_step: OnStep | None) -> None:
        self.accepted += 1
        self.retried = self.nonfinite = self.diverged = False
        self.tell(self.control.accepted, step.h)
        self.t, self.y = t_next, step.y1
        if on_step is not None:
            on_step(step, t_next)
        self.method.accept(self.work)

    def reject(self, h: float, ratio: float) -> float:
        """The step size to try after a failed attempt."""
        self.rejected += 1
        self.retried = True
        self.tell(self.control.rejected, h)
        if math.isfinite(ratio):
            return h * min(0.9, self.factor((ratio, *self.errors[:2])))
        self.require_finite()
        if abs(h) <= self.control.min_step:
            raise self.failure(NonFiniteDynamics, f"f returned NaN or infinity within a step of min_step = {abs(h):g}")
        self.nonfinite = True
        return h * 0.1

    def attempt(self, h: float) -> Step | None:
        """A step with its error; None where Newton's iteration did not converge."""
        try:
            return self.step(h, estimate=True)
        except NewtonDivergence:
            return None

    def step(self, h: float, estimate: bool) -> Step:
        self.past = self.method.snapshot(self.work)
        self.method.begin_attempt(self.work)
        return self.method.step(self.field, self.t, self.y, h, self.work, estimate)

    def halve(self, h: float) -> float:
        """The step size to try after Newton's iteration failed at h."""
        self.rejected += 1
        self.retried = self.diverged = True
        self.tell(self.control.rejected, h)
        self.require_finite()
        if abs(h) <= self.control.min_step:
            raise self.failure(NewtonDivergence, f"Newton's iteration diverged at min_step = {abs(h):g}")
        return h / 2

    def tell(self, callback: Callback | None, h: float) -> None:
        if callback is not None:
            callback(self.t, self.y, h)

    def require_finite(self) -> None:
        if not torch.isfinite(self.method.derivative(self.field, self.t, self.y, self.work)).all():
            raise self.failure(NonFiniteDynamics, "f returned NaN or infinity")

    def check(self, h: float) -> None:
        """Raise where another attempt makes no sense."""
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
