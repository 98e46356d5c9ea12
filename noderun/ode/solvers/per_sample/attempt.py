"""The decision on one attempt of every sample: accept it, try a smaller step, or give up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.per_sample.batch import Batch, ratios
from noderun.ode.solvers.per_sample.problem import NEWTON, NONFINITE, RUNNING, UNDERFLOW
from noderun.ode.solvers.per_sample.step import SampleStep
from noderun.ode.solvers.step_size import AFTER_DIVERGENCE, AFTER_NONFINITE, is_accepted
from noderun.ode.solvers.tableau import combined


@dataclass
class Attempt:
    """The leading dimension of every tensor is b."""

    step: SampleStep
    t1: Tensor
    ratio: Tensor | None  # the error in units of the tolerance
    accepted: Tensor
    finite: Tensor  # False if the solver has to look closer


def accept_or_reject(step: SampleStep, t1: Tensor, batch: Batch, control: StepOptions) -> Attempt:
    if control.fixed:
        finite = torch.isfinite(step.y1).all(1)
        finite = finite if step.failed is None else finite & ~step.failed
        return Attempt(step, t1, None, batch.live & finite, finite)
    found = [ratios(control, error, step.y, step.y1) for error in step.errors]
    ratio = combined(*found) if len(found) == 2 else found[0]
    ratio = ratio if step.failed is None else torch.where(step.failed, torch.nan, ratio)
    finite, resolvable = ratio < torch.inf, step_resolvable(batch)
    accepted = batch.live & is_accepted(ratio, step.h, control.min_step) & resolvable
    return Attempt(step, t1, ratio, accepted, finite & resolvable)


def step_resolvable(batch: Batch) -> Tensor:
    """Whether h is above 4 ulp(t) [b]."""
    return torch.add(batch.t, batch.h, alpha=1 / 8) != batch.t


def failure_code(attempt: Attempt, slope: Tensor, batch: Batch, min_step: float) -> Tensor:
    """The reason why another attempt makes no sense [b], else RUNNING; ``slope`` [b, N] is f at the start."""
    step, lost = attempt.step, ~torch.isfinite(slope).all(1)
    failed = torch.zeros_like(lost) if step.failed is None else step.failed
    if attempt.ratio is None:
        why = torch.where(failed & ~lost, NEWTON, NONFINITE)
        return torch.where(attempt.accepted, RUNNING, why)
    no_number = ~torch.isfinite(batch.h)
    tiny = no_number | ~step_resolvable(batch)
    why = torch.where(batch.diverged == batch.steps, NEWTON, UNDERFLOW)
    why = torch.where(no_number | lost | (batch.nonfinite == batch.steps), NONFINITE, why)
    met = ~tiny & ~torch.isfinite(attempt.ratio)
    batch.nonfinite = torch.where(met & ~failed, batch.steps, batch.nonfinite)
    batch.diverged = torch.where(met & failed, batch.steps, batch.diverged)
    least = step.h <= min_step  # no smaller step is allowed
    stays = torch.where(met & (lost | (least & ~failed)), NONFINITE, torch.where(met & least, NEWTON, RUNNING))
    return torch.where(tiny, why, stays)


def after_no_number(h: Tensor, attempt: Attempt) -> Tensor:
    """h [b], or a part of the last size if that met NaN or if Newton's iteration diverged."""
    if attempt.ratio is None:
        return h
    step, smaller = attempt.step, AFTER_NONFINITE * attempt.step.h
    if step.failed is not None:
        smaller = torch.where(step.failed, AFTER_DIVERGENCE * step.h, smaller)
    return torch.where(torch.isfinite(attempt.ratio), h, smaller)
