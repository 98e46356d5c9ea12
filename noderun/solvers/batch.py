"""The samples of a batch under way, and the decisions of step size control on all of them at once.

Each function is the counterpart, on tensors [b], of one on numbers in ``control`` and ``stepper``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.solvers.control import Control, Controller, rms
from noderun.solvers.sample_field import Evaluate


@dataclass
class Batch:
    """The leading dimension of every tensor is b, the number of samples in hand."""

    sample: Tensor  # which of the whole batch
    ts: Tensor  # [b, T]
    t: Tensor
    y: Tensor  # [b, N]
    h: Tensor  # the step size to try next, signed
    slope: Tensor  # f(t, y) [b, N]
    errors: Tensor  # [b, 3] error ratios of accepted steps, newest first
    retried: Tensor  # whether the last attempt was rejected
    nonfinite: Tensor  # and because it met NaN or infinity
    steps: Tensor  # accepted
    attempts: Tensor
    read: Tensor  # how many of ts are behind
    values: Tensor  # [b, events]
    live: Tensor  # False only where samples that are done are kept

    @property
    def end(self) -> Tensor:
        return self.ts[:, -1]

    def take(self, place: Tensor) -> Batch:
        return Batch(*(getattr(self, f.name)[place] for f in dataclasses.fields(self)))


def first_batch(y: Tensor, ts: Tensor, events: int) -> Batch:
    size, device = len(y), y.device
    zeros = torch.zeros(size, dtype=torch.float64, device=device)
    no, count = zeros.bool(), zeros.long()
    return Batch(
        sample=torch.arange(size, device=device),
        ts=ts,
        t=ts[:, 0].clone(),
        y=y,
        h=zeros,
        slope=torch.zeros_like(y),
        errors=torch.ones(size, 3, dtype=torch.float64, device=device),
        retried=no,
        nonfinite=no,
        steps=count,
        attempts=count,
        read=(ts == ts[:, :1]).sum(1),
        values=zeros.new_zeros(size, events),
        live=ts[:, 0] != ts[:, -1],
    )


def fixed_step(dt: float, batch: Batch) -> Tensor:
    """The next of the steps of dt from the start; the last one is cut to end at the end."""
    span = batch.end - batch.ts[:, 0]
    count = batch.steps + 1
    last = count >= span.abs() / dt - 1e-6
    return torch.where(last, batch.end, batch.ts[:, 0] + count * torch.sign(span) * dt) - batch.t


def limited(control: Control, h: Tensor) -> Tensor:
    return torch.sign(h) * h.abs().clamp(control.min_step, control.max_step)


def too_small(h: Tensor, t: Tensor) -> Tensor:
    """Whether h is below the resolution of t, or no number."""
    ulp = torch.nextafter(t.abs(), torch.full_like(t, torch.inf)) - t.abs()
    return ~((h.abs() > 4 * ulp) & (h.abs() >= 1e-300))


def clipped(h: Tensor, left: Tensor) -> Tensor:
    """h, or what is left to the end; a sliver is never left for a step of its own."""
    cut = torch.where(h.abs() > 0.9 * left.abs(), left / 2, h)
    return torch.where(h.abs() >= left.abs() * (1 - 1e-10), left, cut)


def factors(controller: Controller, errors: Tensor, order: int, retried: Tensor) -> Tensor:
    """The factor on h of each sample from its error ratios [b, 3], newest first."""
    k_i, k_p, k_d = controller.integral, controller.proportional, controller.derivative
    newest, before, oldest = errors.clamp_min(1e-12).unbind(1)
    power = newest ** -(k_i + k_p + k_d) * before ** (k_p + 2 * k_d) * oldest**-k_d
    factor = (controller.safety * power ** (1 / (order + 1))).clamp(controller.min_factor, controller.max_factor)
    return torch.where(retried, factor.clamp_max(1.0), factor)


def next_size(
    control: Control, batch: Batch, h: Tensor, tried: Tensor, ratio: Tensor, accepted: Tensor, order: int
) -> Tensor:
    """The step size to try after an attempt by ``h``, which was cut from ``tried``."""
    errors = torch.cat([ratio.unsqueeze(1), batch.errors[:, :2]], dim=1)
    grown = h * factors(control.controller, errors, order, batch.retried)
    # A step that was cut short says little about the size that the tolerance allows.
    kept = torch.where((h.abs() < tried.abs()) & (tried.abs() >= grown.abs()), tried, grown)
    shrunk = h * factors(control.controller, errors, order, torch.ones_like(accepted)).clamp_max(0.9)
    return torch.where(accepted, kept, torch.where(torch.isfinite(ratio), shrunk, 0.1 * h))


def norms(control: Control, v: Tensor) -> Tensor:
    """The norm of each row of v [b, N], as doubles [b]."""
    of_row: Callable[[Tensor], Tensor] = control.norm
    return (rms(v) if control.norm is rms else torch.vmap(of_row)(v)).double()


def ratios(control: Control, error: Tensor, y: Tensor, y1: Tensor) -> Tensor:
    scale = torch.maximum(y.abs(), y1.abs()).mul_(control.rtol).add_(control.atol)
    return norms(control, error / scale)


def first_sizes(control: Control, evaluate: Evaluate, batch: Batch, slope: Tensor, order: int) -> Tensor:
    """First step sizes [b], signed, from the sizes of y, y' and y''; HNW I, II.4, one call of f."""
    span = batch.end - batch.t
    if control.first_step is not None:
        return torch.sign(span) * control.first_step
    scale = control.atol + control.rtol * batch.y.abs()
    d0, d1 = norms(control, batch.y / scale), norms(control, slope / scale)
    h0 = torch.where((d0 > 1e-5) & (d1 > 1e-5), 0.01 * d0 / d1, 1e-6).minimum(span.abs())
    signed = torch.copysign(h0, span)
    ahead = batch.y + signed.to(batch.y.dtype).unsqueeze(1) * slope
    d2 = norms(control, (evaluate(batch.t + signed, ahead) - slope) / scale) / h0
    largest = torch.maximum(d1, d2)
    h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp_min(1e-6), (0.01 / largest) ** (1 / (order + 1)))
    return torch.copysign((100 * h0).minimum(h1).minimum(span.abs()), span)
