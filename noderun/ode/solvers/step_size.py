"""The formulas of step size control, each written once: for numbers, for tensors [b], and inside compiled graphs.

Sizes, distances and error ratios are numbers >= 0 or tensors of them; the callers put the signs back. A solve of one
state decides on the host (``Stepper``), a batch of samples on tensors (``per_sample``), a compiled loop inside its
graph (``compiled.loop``). Hairer, Norsett, Wanner, Solving ODEs I, II.4, if nothing else is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Value = Any  # a float, or a Tensor of them

NEARLY_ALL = 1 - 1e-10  # a step that leaves less than rounding errors of t to the end goes to the end
HALVED_ABOVE = 0.9  # a step that would leave less than a tenth to the end: two equal steps instead of a sliver
AFTER_REJECTION = 1.0  # largest factor on h in the step after a rejection
REJECTED = 0.9  # largest factor on h of a rejected step, so that the next attempt is another one
AFTER_NONFINITE = 0.1  # factor on h if f gave NaN or infinity: how far its domain reaches is unknown
AFTER_DIVERGENCE = 0.5  # factor on h if Newton's iteration diverged
LEAST_RATIO = 1e-12  # an error of 0 counts as this
SLIVER = 1e-6  # of dt: a last fixed step shorter than this is joined to the one before it

# The first step size; HNW I, II.4, "Starting Step Size" (a) to (f).
SMALL = 1e-5  # a norm of y or y' that is too small to tell a scale from
TRIAL = 0.01  # of |y| / |y'|: the step of Euler's method over which y'' is estimated, and of the error of the result
TRIAL_AT_LEAST = 1e-6
FLAT = 1e-15  # y' and y'' that are 0 in practice
GROWTH_OF_TRIAL = 100  # the first step is at most so many trial steps


def where(condition: Any, x: Value, y: Value) -> Value:
    if condition is True or condition is False:  # no call, as the host comes here in every step
        return x if condition else y
    return torch.where(condition, x, y)


def smaller(x: Value, y: Value) -> Value:
    """The minimum, and x if y is NaN."""
    if not isinstance(x, Tensor):
        return min(x, y)
    return torch.fmin(x, y) if isinstance(y, Tensor) else x.clamp_max(y)


def larger(x: Value, y: Value) -> Value:
    """The maximum, and x if y is NaN."""
    if not isinstance(x, Tensor):
        return max(x, y)
    return torch.fmax(x, y) if isinstance(y, Tensor) else x.clamp_min(y)


def clip(h: Value, left: Value) -> tuple[Value, Any]:
    """h, or what is ``left`` to the end, and whether it is that; a sliver is never left for a step of its own."""
    whole = h >= left * NEARLY_ALL
    return where(whole, left, where(h > HALVED_ABOVE * left, left / 2, h)), whole


def is_accepted(ratio: Value, size: Value, min_step: Value) -> Any:
    """Whether the error is within the tolerance, or is finite and no smaller step is allowed."""
    small = ratio <= 1
    if type(min_step) is float and min_step == 0:  # the usual case, three operations on tensors less
        return small
    return small | ((size <= min_step) & (ratio < math.inf))


def next_size(h: Value, size: Value, factor: Value, accepted: Any = True) -> Value:
    """The size to try next after an attempt with h cut to ``size``.

    A step that was cut short says little about the size that the tolerance allows, so h is tried again.
    """
    return larger(size * factor, h * (accepted & (size < h)))


def euler_trial_step(d0: Value, d1: Value, left: Value) -> Value:
    """The step of Euler's method over which y'' is estimated, from the norms of y and y'."""
    known = (d0 > SMALL) & (d1 > SMALL) & (d1 < math.inf)
    return smaller(where(known, TRIAL * d0 / larger(d1, SMALL), TRIAL_AT_LEAST), left)


def step_from_curvature(trial: Value, d1: Value, change: Value, left: Value, order: int) -> Value:
    """The first step size from the norm of y' and that of its ``change`` over the trial step.

    It is the trial step if f has no finite value that far on.
    """
    most = larger(d1, change / trial)
    flat = larger(trial * 1e-3, TRIAL_AT_LEAST)
    h1 = where(most <= FLAT, flat, (TRIAL / larger(most, FLAT)) ** (1 / (order + 1)))
    finite = (d1 < math.inf) & (most < math.inf)
    return where(finite, smaller(smaller(GROWTH_OF_TRIAL * trial, h1), left), trial)


@dataclass(frozen=True)
class StepController:
    """h_new = h safety e_n^-(kI+kP+kD)/k e_(n-1)^(kP+2kD)/k e_(n-2)^-kD/k with k = order of the estimate + 1.

    Soderlind 2003, "Digital filters in adaptive time-stepping": of the published variants the general linear one, with
    hard limits on the factor, and with the error ratios of accepted steps only as e_(n-1) and e_(n-2). kP = kD = 0 is
    the classical I controller of HNW I, (II.4.13), and kP > 0 the PI controller of HW II, IV.2, which changes h more
    smoothly if stability limits the step.
    """

    integral: float = 1.0
    proportional: float = 0.0
    derivative: float = 0.0
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 10.0

    def factor(self, errors: tuple[float, float, float], order: int) -> float:
        """The factor on h from the last three error ratios, newest first (1 if there was no step yet)."""
        return min(self.max_factor, max(self.min_factor, self.unlimited([max(e, LEAST_RATIO) for e in errors], order)))

    def unlimited(self, errors: Sequence[Value], order: int) -> Value:
        """The same before its limits, of numbers or tensors above 0."""
        k_i, k_p, k_d = self.integral, self.proportional, self.derivative
        newest, before, oldest = errors
        power = newest ** -(k_i + k_p + k_d)
        if k_p or k_d:
            power = power * before ** (k_p + 2 * k_d) * oldest**-k_d
        return self.safety * power ** (1 / (order + 1))


I_CONTROLLER = StepController()
PI_CONTROLLER = StepController(integral=0.3, proportional=0.4)
PID_CONTROLLER = StepController(integral=0.18, proportional=0.28, derivative=0.01)
CONTROLLERS = {"I": I_CONTROLLER, "PI": PI_CONTROLLER, "PID": PID_CONTROLLER}
