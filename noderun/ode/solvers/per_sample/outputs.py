"""The outputs of a batch, read off its steps: the states at each sample's times, and its events."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from noderun.ode.solvers.events import AFTER, LOOKS, Event, crossed
from noderun.ode.solvers.per_sample.batch import Batch, gather_rows
from noderun.ode.solvers.per_sample.field import BatchedField
from noderun.ode.solvers.per_sample.problem import OutputRead, SampleProblem
from noderun.ode.solvers.per_sample.step import SampleStep
from noderun.ode.solvers.roots import roots
from noderun.ode.solvers.times import NEAR

NO_EVENT = 2.0  # above every fraction of a step: no terminal event in this step


class SampleOutputs:
    """Collects the rows of a result round by round; ``reads`` are those of the current round."""

    def __init__(self, problem: SampleProblem) -> None:
        self.problem, self.index = problem, problem.outputs
        self.rows, self.count = [problem.y0.detach()], problem.y0.shape[0]
        self.reads: list[OutputRead] = []
        self.seen: Tensor  # the events' values [6, b, events] over the current step: at its ends and at LOOKS
        self.moved: Tensor  # the samples whose step was accepted
        self.ends = torch.arange(self.count, device=problem.y0.device)  # the row of each sample's last state
        self.index.clear()

    def add(self, read: OutputRead, step: SampleStep) -> None:
        self.reads.append(read)
        self.rows.append(read.of(step))
        self.count += read.place.shape[0]

    def passed(self, batch: Batch, step: SampleStep, accepted: Tensor, limit: Tensor, stop: Tensor | None) -> None:
        """Read off the times from t to ``limit`` [b], or to the time at which an event stopped the sample."""
        if stop is not None:
            limit = torch.where(stop == NO_EVENT, limit, step.t + stop * step.h)
        upto = torch.searchsorted(batch.ts, limit.unsqueeze(1), right=True).squeeze(1)
        many = (upto - batch.read).clamp_min_(0).mul_(accepted)
        ahead = many.cumsum(0)
        place = torch.repeat_interleave(many)
        column = (batch.read - ahead + many)[place] + torch.arange(place.shape[0], device=place.device)
        theta = (batch.ts[place, column] - step.t[place]) / step.h[place]
        end = theta >= 1 - NEAR
        theta.masked_fill_(end, 1.0)
        self.index.asked.append((self.count, batch.sample[place], column, end))
        self.add(OutputRead(self.count, place, theta, not bool(end.all())), step)
        batch.read = batch.read + many
        batch.next = gather_rows(batch.ts, batch.read)

    def step(self, batch: Batch, step: SampleStep, accepted: Tensor) -> None:
        """Read off the wanted fractions of every accepted step; at 0 it is at the end of the one before."""
        (place,) = accepted.nonzero(as_tuple=True)
        sample, thetas = batch.sample[place], [theta for theta in self.problem.fractions if theta > 0]
        self.index.steps.append((self.count, sample, step.t[place], step.h[place], self.ends[sample]))
        theta = torch.tensor(thetas, dtype=torch.float64, device=place.device).repeat_interleave(len(place))
        self.add(OutputRead(self.count, place.repeat(len(thetas)), theta, len(thetas) > 1), step)
        self.ends[sample] = torch.arange(self.count - len(place), self.count, device=place.device)

    def start(self, field: BatchedField, batch: Batch) -> None:
        batch.values = self.event_values(field, batch.t, batch.y)

    def event_values(self, field: BatchedField, t: Tensor, y: Tensor) -> Tensor:
        """[b, events]."""
        return torch.stack([field.value(event, t, y) for event in self.problem.events], dim=1)

    def inside(self, field: BatchedField, step: SampleStep, theta: float) -> Tensor:
        """The events' values [b, events] at one fraction of every sample's step."""
        at = torch.full_like(step.t, theta)
        return torch.stack([value_at(field, step, event, at) for event in self.problem.events], dim=1)

    def look(self, field: BatchedField, batch: Batch, step: SampleStep, accepted: Tensor, t1: Tensor) -> list[Tensor]:
        """Evaluate the events' functions over a step; whether one changed sign, is zero somewhere, is NaN."""
        after = self.event_values(field, t1, step.y1)
        self.seen = torch.stack([batch.values, *(self.inside(field, step, x) for x in LOOKS), after])
        self.moved = accepted
        batch.values = torch.where(accepted.unsqueeze(1), after, batch.values)
        signs, moved = torch.sign(self.seen), accepted.unsqueeze(1)
        happened = ((signs[1:] != signs[:-1]).any(0) & moved).any()
        return [happened, (self.seen.isnan().any(0) & moved).any()]

    def events(self, field: BatchedField, batch: Batch, step: SampleStep) -> Tensor | None:
        """Read off the events seen in a round; the fraction of the step at which each sample stops."""
        found = [
            (i, theta)
            for i, event in enumerate(self.problem.events)
            for part in range(len(self.seen) - 1)
            if (theta := self.crossing(field, step, i, event, part)) is not None
        ]
        if not found:
            return None
        stop = torch.full_like(step.t, NO_EVENT)
        for i, theta in found:
            if self.problem.events[i].terminal:
                stop = stop.minimum(theta)
        for i, theta in found:
            (place,) = ((theta < NO_EVENT) & (theta <= stop)).nonzero(as_tuple=True)
            at, sample = theta[place], batch.sample[place]
            self.index.events.append((self.count, sample, i, step.t[place] + at * step.h[place]))
            self.add(OutputRead(self.count, place, at, True), step)
        return stop

    def crossing(self, field: BatchedField, step: SampleStep, i: int, event: Event, part: int) -> Tensor | None:
        """The fraction of the step [b] at which an event happens in one part of it, else NO_EVENT."""
        before, after = self.seen[part, :, i], self.seen[part + 1, :, i]
        low, high = (torch.full_like(step.t, (0.0, *LOOKS, 1.0)[part + j]) for j in (0, 1))
        zero = before == 0
        if zero.any():  # its sign is that just behind
            low = torch.where(zero, low + AFTER, low)
            before = torch.where(zero, value_at(field, step, event, low), before)
        there = crossed(before, after, event.direction) & self.moved
        if not there.any():
            return None
        low = torch.where(there, low, high)  # a bracket of no width where there is nothing to find
        ends = torch.where(there, before, -1.0), torch.where(there, after, 1.0)
        at = roots(functools.partial(value_at, field, step, event), low, high, *ends)
        return torch.where(there, torch.where(at < 1 - NEAR, at, 1.0), NO_EVENT)

    def lost(self, batch: Batch, stop: Tensor | None) -> Tensor:
        """Whose event has no value [b] before a terminal one ends the solve; which one it was is noted."""
        nan = self.seen.isnan()
        if stop is not None:
            fractions = torch.tensor((0.0, *LOOKS, 1.0), dtype=stop.dtype, device=stop.device)
            nan = nan & (fractions.unsqueeze(1) < stop).unsqueeze(2)
        places = nan.any(0) & self.moved.unsqueeze(1)
        for place, which in places.nonzero().tolist():
            self.index.lost.setdefault(int(batch.sample[place]), which)
        return places.any(1)


def value_at(field: BatchedField, step: SampleStep, event: Event, theta: Tensor) -> Tensor:
    """g at t + theta h [b] of all samples, each at its own fraction."""
    y = step.between(torch.arange(len(theta), device=theta.device), theta)
    return field.value(event, step.t + theta * step.h, y)
