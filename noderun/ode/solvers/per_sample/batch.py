"""The samples of a batch in progress, and what step size control needs of all of them at once.

The formulas are those of ``step_size``, on tensors [b]. Times rise for every sample and step sizes are positive:
``SampleField`` knows the samples whose t runs back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions, rms
from noderun.ode.solvers.per_sample.field import BatchedField
from noderun.ode.solvers.per_sample.times import along, segments
from noderun.ode.solvers.step_size import LEAST_RATIO, SLIVER, StepController, euler_trial_step, step_from_curvature


@dataclass
class BatchRows:
    """Tensors whose leading dimension is b, the number of samples in the batch."""

    def take(self, place: Tensor) -> Self:
        return type(self)(*(getattr(self, f.name)[place] for f in dataclasses.fields(self)))


@dataclass
class Batch(BatchRows):
    """The current time, state and step size control of each sample."""

    sample: Tensor  # its index in the whole batch
    ts: Tensor  # [b, T + 1], infinity behind the last
    starts: Tensor  # [b, S] the starts of the intervals between jumps of f
    stops: Tensor  # [b, S] their ends
    segment: Tensor  # the index of the current interval
    stop: Tensor  # its end
    begun: Tensor  # ``steps`` when it began
    grid: Tensor  # [b, n + 1] times at which steps along a grid end, infinity behind the last
    t: Tensor
    y: Tensor  # [b, N]
    h: Tensor  # the step size to try next
    slope: Tensor  # f(t, y) [b, N]
    cap: Tensor  # the largest factor on h: 1 right after a rejection
    errors: Tensor  # [b, 2] error ratios of accepted steps, newest first
    steps: Tensor  # accepted
    nonfinite: Tensor  # ``steps`` when an attempt last met NaN or infinity, else -1
    diverged: Tensor  # ``steps`` when Newton's iteration last diverged, else -1
    read: Tensor  # the number of ts that are behind
    next: Tensor  # the first of ts that is ahead
    values: Tensor  # [b, events]
    live: Tensor  # False for samples that are done but kept

    @property
    def end(self) -> Tensor:
        return self.ts[:, -2]


def first_batch(y: Tensor, ts: Tensor, sign: Tensor | None, control: StepOptions, events: int) -> Batch:
    size, device, real = len(y), y.device, y.dtype.to_real()
    zeros = torch.zeros(size, dtype=torch.float64, device=device)
    count, passed = zeros.long(), (ts == ts[:, :1]).sum(1)
    padded = torch.cat([ts, ts.new_full((size, 1), torch.inf)], dim=1)
    starts, stops = segments(control.jumps, sign, ts, real)
    return Batch(
        sample=torch.arange(size, device=device),
        ts=padded,
        starts=starts,
        stops=stops,
        segment=count,
        stop=stops[:, 0],
        begun=count,
        grid=grid_of(control.grid or (), sign, ts),
        t=ts[:, 0].clone(),
        y=y,
        h=zeros,
        slope=torch.zeros_like(y),
        cap=torch.full((size,), control.controller.max_factor, dtype=real, device=device),
        errors=torch.ones(size, 2, dtype=real, device=device),
        steps=count,
        nonfinite=count - 1,
        diverged=count - 1,
        read=passed,
        next=gather_rows(padded, passed),
        values=zeros.new_zeros(size, events),
        live=ts[:, 0] != ts[:, -1],
    )


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """The element [b] of each of the rows [b, n] at its index [b]."""
    return rows.gather(1, index.unsqueeze(1)).squeeze(1)


def grid_of(grid: Sequence[float], sign: Tensor | None, ts: Tensor) -> Tensor:
    """A grid of steps [B, n + 1] along each sample's way, infinity behind the last."""
    return torch.cat([along(grid, sign, ts), torch.full_like(ts[:, :1], torch.inf)], dim=1)


def fixed_end(dt: float | None, batch: Batch) -> Tensor:
    """The end of the next fixed step: after dt, counted from the last jump of f, or at the grid's next time."""
    if dt is None:
        following = torch.searchsorted(batch.grid, batch.t.unsqueeze(1), right=True).squeeze(1)
        return gather_rows(batch.grid, following).minimum(batch.stop)
    start, count = gather_rows(batch.starts, batch.segment), (batch.steps - batch.begun + 1).double()
    last = count >= (batch.stop - start) / dt - SLIVER
    return torch.where(last, batch.stop, start + count * dt)


def factors(controller: StepController, ratio: Tensor, errors: Tensor, order: int) -> Tensor:
    """The controller's factor on h, before its upper limit, from the error ratios [b] and those before [b, 2]."""
    if controller.proportional or controller.derivative:
        newest, (before, oldest) = ratio.clamp_min(LEAST_RATIO), errors.clamp_min(LEAST_RATIO).unbind(1)
    else:  # an I controller asks for the newest alone, of which 0 becomes an infinite factor
        newest = before = oldest = ratio
    factor: Tensor = controller.unlimited((newest, before, oldest), order)
    return factor.clamp_min_(controller.min_factor)


def norms(control: StepOptions, v: Tensor) -> Tensor:
    """The norm of each row of v [b, N]: [b]."""
    if control.norm is not rms:
        of_row: Callable[[Tensor], Tensor] = control.norm
        return torch.vmap(of_row)(v)
    size = v.abs() if v.is_complex() else v
    return torch.mv(size.square(), size.new_full((v.shape[1],), 1 / max(v.shape[1], 1))).sqrt_()


def ratios(control: StepOptions, error: Tensor, y: Tensor, y1: Tensor) -> Tensor:
    scale = torch.maximum(y.abs(), y1.abs()).mul_(control.rtol).add_(control.atol)
    return norms(control, error / scale)


def first_sizes(control: StepOptions, field: BatchedField, batch: Batch, slope: Tensor, order: int) -> Tensor:
    """First step sizes [b] from the sizes of y, y' and y''; HNW I, II.4, one call of f."""
    span = batch.stop - batch.t
    if control.first_step is not None:
        return torch.full_like(span, control.first_step)
    scale = control.atol + control.rtol * batch.y.abs()
    d0, d1 = norms(control, batch.y / scale).double(), norms(control, slope / scale).double()
    trial = euler_trial_step(d0, d1, span)
    ahead = batch.y + trial.to(batch.y.dtype).unsqueeze(1) * slope
    change = norms(control, (field(batch.t + trial, ahead) - slope) / scale).double()
    sizes: Tensor = step_from_curvature(trial, d1, change, span, order)
    return sizes
