"""The samples of a batch under way, and the decisions of step size control on all of them at once.

Each function is the counterpart, on tensors [b], of one on numbers in ``control`` and ``stepper``. Times rise along
every sample's way and step sizes are positive: ``SampleField`` knows whose t runs back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from noderun.solvers.control import Control, Controller, rms
from noderun.solvers.sample_field import FieldOf


@dataclass
class Rows:
    """Tensors whose leading dimension is b, the number of samples in hand."""

    def take(self, place: Tensor) -> Self:
        return type(self)(*(getattr(self, f.name)[place] for f in dataclasses.fields(self)))


@dataclass
class Batch(Rows):
    """Where each sample stands."""

    sample: Tensor  # which of the whole batch
    ts: Tensor  # [b, T + 1], infinity behind the last
    t: Tensor
    y: Tensor  # [b, N]
    h: Tensor  # the step size to try next
    slope: Tensor  # f(t, y) [b, N]
    cap: Tensor  # the largest factor on h: 1 right after a rejection
    errors: Tensor  # [b, 2] error ratios of accepted steps, newest first
    steps: Tensor  # accepted
    nonfinite: Tensor  # ``steps`` when an attempt last met NaN or infinity, -1 where none did
    diverged: Tensor  # and when Newton's iteration last diverged
    read: Tensor  # how many of ts are behind
    next: Tensor  # the first of ts that is not
    values: Tensor  # [b, events]
    live: Tensor  # False where samples that are done are kept

    @property
    def end(self) -> Tensor:
        return self.ts[:, -2]


def first_batch(y: Tensor, ts: Tensor, events: int, max_factor: float) -> Batch:
    size, device = len(y), y.device
    zeros = torch.zeros(size, dtype=torch.float64, device=device)
    count, passed = zeros.long(), (ts == ts[:, :1]).sum(1)
    padded = torch.cat([ts, ts.new_full((size, 1), torch.inf)], dim=1)
    return Batch(
        sample=torch.arange(size, device=device),
        ts=padded,
        t=ts[:, 0].clone(),
        y=y,
        h=zeros,
        slope=torch.zeros_like(y),
        cap=torch.full((size,), max_factor, dtype=y.dtype.to_real(), device=device),
        errors=torch.ones(size, 2, dtype=y.dtype.to_real(), device=device),
        steps=count,
        nonfinite=count - 1,
        diverged=count - 1,
        read=passed,
        next=upcoming(padded, passed),
        values=zeros.new_zeros(size, events),
        live=ts[:, 0] != ts[:, -1],
    )


def upcoming(ts: Tensor, read: Tensor) -> Tensor:
    """The first of each row of ts [b, T + 1] that is not yet read."""
    return ts.gather(1, read.unsqueeze(1)).squeeze(1)


def fixed_step(dt: float, batch: Batch) -> Tensor:
    """The next of the steps of dt from the start; the last one is cut to end at the end."""
    start, count = batch.ts[:, 0], (batch.steps + 1).double()
    last = count >= (batch.end - start) / dt - 1e-6
    return torch.where(last, batch.end, start + count * dt) - batch.t


def clipped(h: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """h, or what is left to the end (a sliver is never left for a step of its own), and where it was cut."""
    cut = h > 0.9 * left
    return torch.where(cut, torch.where(h >= left * (1 - 1e-10), left, 0.5 * left), h), cut


def factors(controller: Controller, ratio: Tensor, errors: Tensor, order: int) -> Tensor:
    """The controller's factor on h, before its upper limit, from the error ratios [b] and those before [b, 2]."""
    k_i, k_p, k_d = controller.integral, controller.proportional, controller.derivative
    exponent = 1 / (order + 1)
    if k_p == k_d == 0:
        power = torch.log2(ratio) * (-k_i * exponent)
    else:
        newest, (before, oldest) = torch.log2(ratio.clamp_min(1e-12)), torch.log2(errors.clamp_min(1e-12)).unbind(1)
        power = (-(k_i + k_p + k_d) * newest + (k_p + 2 * k_d) * before - k_d * oldest) * exponent
    return torch.exp2(power).mul_(controller.safety).clamp_min_(controller.min_factor)


def norms(control: Control, v: Tensor) -> Tensor:
    """The norm of each row of v [b, N]: [b]."""
    if control.norm is not rms:
        of_row: Callable[[Tensor], Tensor] = control.norm
        return torch.vmap(of_row)(v)
    size = v.abs() if v.is_complex() else v
    return torch.mv(size.square(), size.new_full((v.shape[1],), 1 / max(v.shape[1], 1))).sqrt_()


def ratios(control: Control, error: Tensor, y: Tensor, y1: Tensor) -> Tensor:
    scale = torch.maximum(y.abs(), y1.abs()).mul_(control.rtol).add_(control.atol)
    return norms(control, error / scale)


def first_sizes(control: Control, field: FieldOf, batch: Batch, slope: Tensor, order: int) -> Tensor:
    """First step sizes [b] from the sizes of y, y' and y''; HNW I, II.4, one call of f."""
    span = batch.end - batch.t
    if control.first_step is not None:
        return torch.full_like(span, control.first_step)
    scale = control.atol + control.rtol * batch.y.abs()
    d0, d1 = norms(control, batch.y / scale).double(), norms(control, slope / scale).double()
    h0 = torch.where((d0 > 1e-5) & (d1 > 1e-5), 0.01 * d0 / d1, 1e-6).minimum(span)
    ahead = batch.y + h0.to(batch.y.dtype).unsqueeze(1) * slope
    d2 = norms(control, (field(batch.t + h0, ahead) - slope) / scale).double() / h0
    largest = torch.maximum(d1, d2)
    h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp_min(1e-6), (0.01 / largest) ** (1 / (order + 1)))
    return (100 * h0).minimum(h1).minimum(span)
