"""The solution of every sample of a finished batch at all its steps, or at any time."""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.ode.solvers.dense import barycentric
from noderun.ode.solvers.per_sample.problem import SampleProblem, count_from
from noderun.ode.solvers.times import NEAR


def ordered(sample: Tensor, time: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The order [n] by sample, then by time, and the place [n] that each then has among its sample's."""
    order = time.argsort(stable=True)
    order = order[sample[order].argsort(stable=True)]
    count = torch.bincount(sample, minlength=size)
    first = count.cumsum(0) - count
    return order, torch.arange(len(order), device=order.device) - first[sample[order]]


def longest(place: Tensor) -> int:
    """The length of the longest of several lists, from the places of their items; at least 1."""
    return int(place.max()) + 1 if len(place) else 1


def at_times(problem: SampleProblem, rows: Tensor) -> Tensor:
    """ys [T, B, N] at the times asked for, NaN if a sample did not arrive."""
    at_start = (problem.ts == problem.ts[:, :1]).t().unsqueeze(2)
    ys = torch.where(at_start, rows[: len(problem.y0)], torch.nan)
    if not problem.outputs.asked:
        return ys
    parts = ((columns, samples, count_from(first, samples)) for first, samples, columns, _ in problem.outputs.asked)
    column, sample, row = (torch.cat(part) for part in zip(*parts, strict=True))
    return ys.index_put((column, sample), rows[row])


def every_step(problem: SampleProblem, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Times [T, B] and states [T, B, N] of the starts, all steps' ends, the times asked for and the events.

    T is that of the sample that has most; the others are NaN behind their last.
    """
    outputs, size = problem.outputs, len(problem.y0)
    everyone = torch.arange(size, device=rows.device)
    parts = [(everyone, problem.ts[:, 0], everyone)]
    for first, sample, t, h, _ in outputs.steps:
        last = first + (sum(theta > 0 for theta in problem.fractions) - 1) * len(sample)
        parts.append((sample, t + h, count_from(last, sample)))
    for first, sample, column, end in outputs.asked:
        t = problem.ts[sample, column]
        new = ~end & (t != problem.ts[sample, column - 1])
        parts.append((sample[new], t[new], count_from(first, sample)[new]))
    for first, sample, _, t in outputs.events:
        parts.append((sample, t, count_from(first, sample)))
    sample, time, row = (torch.cat(part) for part in zip(*parts, strict=True))
    reached = time <= problem.field.natural(problem.stats.t)[sample]
    sample, time, row = sample[reached], time[reached], row[reached]
    order, place = ordered(sample, time, size)
    most, at = longest(place), (place, sample[order])
    ts = time.new_full((most, size), torch.nan).index_put(at, time[order])
    ys = rows.new_full((most, *problem.y0.shape), torch.nan).index_put(at, rows[row[order]])
    return problem.field.natural(ts), ys


class SampleDense:
    """y(t) of every sample from the values at the nodes of its steps; the counterpart of ``DenseOutput``."""

    def __init__(self, problem: SampleProblem, rows: Tensor) -> None:
        self.field, self.rows, size = problem.field, rows, len(problem.y0)
        everyone, start, nodes = torch.arange(size, device=rows.device), problem.ts[:, 0], len(problem.fractions)
        # A step of no length at the start of each, for samples that made none.
        parts = [(everyone, start, torch.zeros_like(start), everyone.unsqueeze(1).expand(-1, nodes))]
        for first, sample, t, h, before in problem.outputs.steps:
            ahead = torch.arange((nodes - 1) * len(sample), device=rows.device).view(nodes - 1, -1).t() + first
            parts.append((sample, t, h, torch.cat([before.unsqueeze(1), ahead], dim=1)))
        sample, t, h, index = (torch.cat(part) for part in zip(*parts, strict=True))
        order, place = ordered(sample, t, size)
        at, most = (sample[order], place), longest(place)
        self.starts = t.new_full((size, most), torch.inf).index_put(at, t[order])
        self.sizes = t.new_zeros(size, most).index_put(at, h[order])
        self.index = index.new_zeros(size, most, nodes).index_put(at, index[order])
        self.first, self.last = start, self.field.natural(problem.stats.t)

    def __call__(self, t: Tensor) -> Tensor:
        """[n, B, N] at t [n] for all samples, or [n, B]; ValueError outside of a sample's way."""
        t = t.detach().to(self.rows.device, torch.float64)
        s = self.field.natural(t if t.dim() == 2 else t.unsqueeze(1).expand(-1, len(self.first))).t().contiguous()
        slack = NEAR * self.sizes.amax(1)
        outside = ((s < (self.first - slack).unsqueeze(1)) | (s > (self.last + slack).unsqueeze(1))).any(1)
        if outside.any():
            which = int(outside.nonzero()[0])
            first, last = (self.field.natural(x)[which].item() for x in (self.first, self.last))
            raise ValueError(f"interpolate: sample {which} is known from t = {first:g} to {last:g}, not beyond")
        step = (torch.searchsorted(self.starts, s, right=True) - 1).clamp_min(0)
        size = self.sizes.gather(1, step)
        theta = (s - self.starts.gather(1, step)) / torch.where(size > 0, size, 1.0)
        weights = barycentric(theta.cpu()).to(self.rows)
        chosen = self.index.gather(1, step.unsqueeze(2).expand(-1, -1, self.index.shape[2]))
        return torch.einsum("bnj,bnjk->nbk", weights, self.rows[chosen])
