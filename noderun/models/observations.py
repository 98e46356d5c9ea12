"""The observations of a batch of series as continuous-time models need them: knots in order, each with what was seen.

Target times become knots at which nothing was observed, so that every output is read at a knot. The padding behind a
series' last observation is moved to that time: nothing passes there, and no model's state changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Observations:
    """Knots of each series in the order of time; N of them, those of targets included."""

    values: Tensor  # [B, N, D]
    times: Tensor  # [B, N], not falling
    observed: Tensor | None  # bool [B, N, D]; None: all
    rows: Tensor | None  # int64 [B, S]: the knots at which outputs are read; None: the last one

    @staticmethod
    def of(
        inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Observations:
        """From inputs [B, T, D], times [B, T], mask [B, T] or [B, T, D] and target_times [B, S]."""
        if mask is not None:
            mask = mask if mask.dim() == 3 else mask.unsqueeze(-1).expand_as(inputs)
            inputs, times = torch.where(mask, inputs, 0.0), held_after_last(times, mask)
        times = times.to(inputs)
        if target_times is None:
            return Observations(inputs, times, mask, None)
        count, added = inputs.shape[1], inputs.new_zeros(len(inputs), target_times.shape[1], inputs.shape[2])
        observed = torch.ones_like(inputs, dtype=torch.bool) if mask is None else mask
        together = torch.cat([times, target_times.to(inputs)], dim=1)
        order = together.argsort(dim=1, stable=True)  # an observation at a target's time comes before it
        return Observations(
            values=at_rows(torch.cat([inputs, added], dim=1), order),
            times=together.gather(1, order),
            observed=at_rows(torch.cat([observed, added.bool()], dim=1), order),
            rows=order.argsort(dim=1)[:, count:],
        )

    def with_time(self) -> Observations:
        """The same with time as the first channel, which is always observed."""
        values, observed = torch.cat([self.times.unsqueeze(-1), self.values], dim=2), self.observed
        if observed is not None:
            observed = torch.cat([torch.ones_like(observed[..., :1]), observed], dim=2)
        return replace(self, values=values, observed=observed)


def held_after_last(times: Tensor, mask: Tensor) -> Tensor:
    """Times [B, T] that stand still from a series' last observation on."""
    numbers = torch.arange(times.shape[1], device=times.device)
    last = torch.where(mask.any(2), numbers, 0).amax(1, keepdim=True)
    return torch.where(numbers > last, times.gather(1, last), times)


def at_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x [B, N, D] at rows [B, S] of its second dimension."""
    return x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[2]))


def extended(x: Tensor, observed: Tensor, initial: float | None) -> tuple[Tensor, Tensor]:
    """Values and flags with both ends of each channel filled in.

    Before its first observation it is ``initial``, or that observation if None; after its last one it stays.
    """
    numbers = torch.arange(x.shape[1], device=x.device).view(-1, 1)
    first = torch.where(observed, numbers, x.shape[1] - 1).amin(1, keepdim=True)
    last = torch.where(observed, numbers, 0).amax(1, keepdim=True)
    start = x.gather(1, first) if initial is None else x.new_tensor(initial)
    before, after = numbers < first, numbers > last
    if initial is not None:  # also of a channel that has no observation
        before = before | ~observed.any(1, keepdim=True)
    x = torch.where(before, start, torch.where(after, x.gather(1, last), x))
    return x, observed | before | after


def carried_forward(x: Tensor, observed: Tensor) -> Tensor:
    """x [B, N, D] where each missing value is the last one before it."""
    return x.gather(1, last_before(observed))


def between(x: Tensor, observed: Tensor, times: Tensor) -> Tensor:
    """x [B, N, D] where missing values lie on the line between their neighbors in time [B, N, 1]."""
    earlier = last_before(observed)
    later = x.shape[1] - 1 - last_before(observed.flip(1)).flip(1)
    t, x0, x1 = times.expand_as(x), x.gather(1, earlier), x.gather(1, later)
    t0, t1 = t.gather(1, earlier), t.gather(1, later)
    share = torch.where(t1 > t0, (t - t0) / (t1 - t0), 0.0)
    return x0 + share * (x1 - x0)


def last_before(observed: Tensor) -> Tensor:
    """int64 [B, N, D]: the number of the last knot up to each that was observed, 0 if there is none."""
    numbers = torch.arange(observed.shape[1], device=observed.device).view(-1, 1)
    return torch.where(observed, numbers, 0).cummax(1).values
