"""The times of a batch along each sample's way; the counterpart of ``times`` on tensors [b]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class SampleBounds(NamedTuple):
    """The times along the way between which f may be called, in the state's real dtype, and the jumps in between."""

    low: Tensor  # [b]
    high: Tensor  # [b]
    jumps: Tensor  # [b, j], rising

    def beyond(self, t: Tensor, later: Tensor) -> Tensor:
        """Whether the end or a jump of f lies between t [b] and ``later`` [b]."""
        jumped = (self.jumps > t.unsqueeze(1)) & (self.jumps < later.unsqueeze(1))
        return (later > self.high) | jumped.any(1)

    def take(self, samples: Tensor) -> SampleBounds:
        return SampleBounds(*(x[samples] for x in self))


def sample_bounds(ts: Tensor, jumps: Tensor, dtype: torch.dtype) -> SampleBounds:
    """The bounds of solves over ts [B, T] with jumps [B, j]; the counterpart of ``bounds_of``."""
    first, last = ts[:, 0], ts[:, -1]
    apart = [torch.where(jumps == end.unsqueeze(1), margins(jumps, dtype), 0.0).sum(1) for end in (first, last)]
    low, high = inward(first + apart[0], dtype, 1), inward(last - apart[1], dtype, -1)
    empty = low > high  # no number of dtype lies inside
    return SampleBounds(torch.where(empty, first.to(dtype), low), torch.where(empty, last.to(dtype), high), jumps)


def inward(t: Tensor, dtype: torch.dtype, side: int) -> Tensor:
    """The numbers of ``dtype`` nearest to t [b] that are not below it (``side`` 1), or not above it (-1)."""
    nearest = t.to(dtype)
    further = torch.nextafter(nearest, torch.full_like(nearest, side * torch.inf))
    return torch.where(side * nearest.double() >= side * t, nearest, further)


def along(times: Sequence[float], sign: Tensor | None, ts: Tensor) -> Tensor:
    """The same times for all samples, rising along each one's way [b, n]."""
    row = torch.tensor(times, dtype=ts.dtype, device=ts.device).expand(len(ts), -1)
    return row.contiguous() if sign is None else (row * sign.unsqueeze(1)).sort(dim=1).values


def segments(jumps: Sequence[float], sign: Tensor | None, ts: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The starts and the ends of the intervals between jumps of f, [b, S] each; see ``split_at_jump``."""
    start, end, way = ts[:, :1], ts[:, -1:], along(jumps, sign, ts)
    ulp = margins(way, dtype)
    inside = (way - ulp > start) & (way + ulp < end)
    before, order = torch.where(inside, way - ulp, end).sort(dim=1)
    after = torch.where(inside, way + ulp, end).gather(1, order)
    return torch.cat([start, after], dim=1), torch.cat([before, end], dim=1)


def margins(jumps: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance from jumps of f at which ``dtype`` can tell times from them."""
    return (jumps.abs() * torch.finfo(dtype).eps).clamp_min(torch.finfo(dtype).tiny)
