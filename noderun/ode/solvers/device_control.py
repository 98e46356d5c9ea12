"""Step size control on tensors [] of the device: what ``Stepper`` decides by numbers, without one that the host reads.

A graph decides by these functions, and ``Stepper.decide`` again from the sizes and errors that it left. They work on
two vectors: the ``state`` of a solve (t, h, three error ratios, whether the last attempt failed) and the ``numbers`` it
was given (the state at its start; the end, the number of attempts that there may be, the least and the largest step;
whatever else; rtol and atol).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import Norm
from noderun.ode.solvers.step_size import (
    AFTER_REJECTION,
    LEAST_RATIO,
    REJECTED,
    StepController,
    clip,
    euler_trial_step,
    is_accepted,
    next_size,
    step_from_curvature,
)

Tolerances = tuple[Tensor, Tensor]  # rtol and atol, [] or [N]


def limits(numbers: Tensor) -> tuple[Tensor, ...]:
    """The end, the number of attempts that there may be, the least and the largest step."""
    return numbers[6:10].unbind()


def limited(h: Tensor, numbers: Tensor) -> Tensor:
    """h within its limits (``StepOptions.limited``)."""
    _, _, least, most = limits(numbers)
    return torch.copysign(torch.minimum(torch.maximum(h.abs(), least), most), h)


def sized(state: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """h within its limits, and h cut to end at the end of the solve."""
    h = limited(state[1], numbers)
    size, _ = clip(h.abs(), (limits(numbers)[0] - state[0]).abs())
    return h, torch.copysign(size, h)


def under_way(state: Tensor, numbers: Tensor, count: Tensor, most: int) -> Tensor:
    """Whether another attempt is to be made after ``count`` of at most ``most``."""
    (t, h), (end, left, *_) = state[:2].unbind(), limits(numbers)
    further = (count < most) & (count < left) & (t != end)
    return further & (h.abs() > 8 * sys.float_info.epsilon * t.abs()) & (h.abs() > 1e-300)


def decide(
    controller: StepController, order: int, state: Tensor, numbers: Tensor, h: Tensor, size: Tensor, ratio: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether the attempt is accepted, and the state after it (``Stepper.decide``).

    If the error is not a number the next h is NaN, which ends the loop: the host decides.
    """
    (t, _, newest, before, oldest, retried), (end, _, least, _) = state.unbind(), limits(numbers)
    accepted = is_accepted(ratio, size.abs(), least)
    grown = factor(controller, (ratio, newest, before), order, accepted, retried)
    following = torch.copysign(next_size(h.abs(), size.abs(), grown, accepted), h)
    following = torch.where(ratio < torch.inf, following, torch.nan)
    reached = torch.where(size == end - t, end, t + size)
    after = torch.stack([reached, following, ratio, newest, before, torch.zeros_like(t)])
    failed = torch.stack([t, following, newest, before, oldest, torch.ones_like(t)])
    return accepted, torch.where(accepted, after, failed)


def factor(
    controller: StepController, errors: Sequence[Tensor], order: int, accepted: Tensor, retried: Tensor
) -> Tensor:
    """The factor on the size (``StepController.factor``, ``Method.factor``, ``Stepper.reject``)."""
    found = controller.unlimited([e.clamp_min(LEAST_RATIO) for e in errors], order)
    found = found.clamp(controller.min_factor, controller.max_factor)
    found = torch.where(retried > 0, found.clamp_max(AFTER_REJECTION), found)
    return torch.where(accepted, found, found.clamp_max(REJECTED))


def first_size(
    slope_at: Callable[[Tensor, Tensor], Tensor],
    order: int,
    t: Tensor,
    span: Tensor,
    within: Tolerances,
    y: Tensor,
    slope: Tensor,
    norm: Norm,
) -> Tensor:
    """The first step size [], as ``control.first_step`` chooses it; one call of f, at a time in double precision."""
    scale, left = scaled(within, y.abs()), span.abs()
    d0, d1 = (size_of(norm, x / scale).to(torch.float64) for x in (y, slope))
    size = euler_trial_step(d0, d1, left)
    trial = torch.copysign(size, span)
    later = slope_at(t + trial, y + trial.to(y.dtype) * slope)
    change = size_of(norm, (later - slope) / scale).to(torch.float64)
    return torch.copysign(step_from_curvature(size, d1, change, left, order), span)


def size_of(norm: Norm, v: Tensor) -> Tensor:
    """The norm [] of v; torch 2.11 compiles that of a single number as one of shape [1]."""
    return norm(v).reshape(())


def tolerances(numbers: Tensor, given: Sequence[Tensor | None]) -> Tolerances:
    """rtol and atol: per component if they were given so, else the last two of the numbers."""
    rtol, atol = (z if x is None else x for x, z in zip(given, numbers[-2:].unbind(), strict=True))
    return rtol, atol


def scaled(within: Tolerances, size: Tensor) -> Tensor:
    """atol + rtol |y|."""
    rtol, atol = (x.to(size.dtype) for x in within)
    return atol + rtol * size
