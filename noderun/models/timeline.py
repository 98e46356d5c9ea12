"""Observations and questions of a series on one line of time, for models that go along it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Timeline:
    """L moments per series, in order. A question's own moment has no observation, and precedes one at its time."""

    times: Tensor  # [B, L]
    values: Tensor  # [B, L, D], 0 where nothing was observed
    mask: Tensor  # float [B, L, D]
    asked: Tensor  # int64 [B, S]: the place of each question; the last observation if there is no question

    @property
    def gaps(self) -> Tensor:
        """[B, L]: the time since the moment before; 0 at the first."""
        return torch.diff(self.times, dim=1, prepend=self.times[:, :1])

    def since_observed(self) -> Tensor:
        """[B, L, D]: the time since the channel's last observation before (Che et al. 2018, equation 2)."""
        times = self.times.unsqueeze(-1).expand_as(self.values)
        seen = torch.where(self.mask > 0, times, self.times[:, :1].unsqueeze(-1)).cummax(1).values
        before = torch.cat([seen[:, :1], seen[:, :-1]], dim=1)
        return times - before

    def filled(self) -> Tensor:
        """[B, L, D]: each channel's last observed value so far, 0 before the first."""
        length = torch.arange(self.values.shape[1], device=self.values.device).view(1, -1, 1)
        last = torch.where(self.mask > 0, length, -1).cummax(1).values
        return torch.where(last >= 0, self.values.gather(1, last.clamp(min=0)), 0.0)


def timeline(inputs: Tensor, times: Tensor, mask: Tensor | None, target_times: Tensor | None) -> Timeline:
    """From what a model of a series is called with: inputs [B, T, D], times [B, T], mask [B, T(, D)] or None, and
    target_times [B, S] or None."""
    observed = channel_mask(inputs, mask)
    values = torch.where(observed, inputs, 0.0)
    if target_times is None:
        place = torch.arange(times.shape[1], device=times.device)
        last = torch.where(observed.any(-1), place, 0).amax(1, keepdim=True)
        return Timeline(times, values, observed.to(values), last)
    questions = target_times.shape[1]
    # questions first, so that a stable sort leaves them before an observation of the same time
    every = torch.cat([target_times, times], dim=1)
    ordered, order = every.sort(dim=1, stable=True)
    blank = values.new_zeros(len(values), questions, values.shape[2])
    index = order.unsqueeze(-1).expand(-1, -1, values.shape[2])
    merged = torch.cat([blank, values], dim=1).gather(1, index)
    seen = torch.cat([blank, observed.to(values)], dim=1).gather(1, index)
    return Timeline(ordered, merged, seen, order.argsort(1)[:, :questions])


def channel_mask(inputs: Tensor, mask: Tensor | None) -> Tensor:
    """bool [B, T, D] of any mask that a batch may have."""
    if mask is None:
        return torch.ones_like(inputs, dtype=torch.bool)
    return mask if mask.dim() == inputs.dim() else mask.unsqueeze(-1).expand_as(inputs)
