"""What is read off the steps of a batch: the states at each sample's times, and its events."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from noderun.solvers.events import AFTER, Event, crossed
from noderun.solvers.per_sample.batch import Batch, upcoming
from noderun.solvers.per_sample.field import FieldOf
from noderun.solvers.per_sample.problem import Read, SampleProblem
from noderun.solvers.per_sample.step import SampleStep
from noderun.solvers.roots import roots

NEVER = 2.0  # the fraction of a step at which a sample stops that no event stops


class SampleOutputs:
    """Collects the rows of a result while the rounds go by; ``reads`` are those of the round in hand."""

    def __init__(self, problem: SampleProblem) -> None:
        self.problem, self.readout = problem, problem.readout
        self.rows, self.count = [problem.y0.detach()], problem.y0.shape[0]
        self.reads: list[Read] = []
        self.zero = False  # whether an event's function is zero where a sample stands
        self.seen: tuple[Tensor, Tensor, Tensor]  # values [b, events] before and after the step, and what happened
        self.ends = torch.arange(self.count, device=problem.y0.device)  # the row of each sample's last state
        self.readout.clear()

    def add(self, read: Read, step: SampleStep) -> None:
        self.reads.append(read)
        self.rows.append(read.of(step))
        self.count += read.place.shape[0]

    def passed(self, batch: Batch, step: SampleStep, accepted: Tensor, limit: Tensor, stop: Tensor | None) -> None:
        """Read off the times from t to ``limit`` [b], or to where an event stopped the sample."""
        if stop is not None:
            limit = torch.where(stop == NEVER, limit, step.t + stop * step.h)
        upto = torch.searchsorted(batch.ts, limit.unsqueeze(1), right=True).squeeze(1)
        many = (upto - batch.read).clamp_min_(0).mul_(accepted)
        ahead = many.cumsum(0)
        place = torch.repeat_interleave(many)
        column = (batch.read - ahead + many)[place] + torch.arange(place.shape[0], device=place.device)
        theta = (batch.ts[place, column] - step.t[place]) / step.h[place]
        end = theta >= 1 - 1e-9
        theta.masked_fill_(end, 1.0)
        self.readout.asked.append((self.count, batch.sample[place], column, end))
        self.add(Read(self.count, place, theta, not bool(end.all())), step)
        batch.read = batch.read + many
        batch.next = upcoming(batch.ts, batch.read)

    def step(self, batch: Batch, step: SampleStep, accepted: Tensor) -> None:
        """Read off the wanted fractions of every accepted step; at 0 it is at the end of the one before."""
        (place,) = accepted.nonzero(as_tuple=True)
        sample, thetas = batch.sample[place], [theta for theta in self.problem.fractions if theta > 0]
        self.readout.steps.append((self.count, sample, step.t[place], step.h[place], self.ends[sample]))
        theta = torch.tensor(thetas, dtype=torch.float64, device=place.device).repeat_interleave(len(place))
        self.add(Read(self.count, place.repeat(len(thetas)), theta, len(thetas) > 1), step)
        self.ends[sample] = torch.arange(self.count - len(place), self.count, device=place.device)

    def start(self, field: FieldOf, batch: Batch) -> None:
        batch.values = self.event_values(field, batch.t, batch.y)
        self.zero = bool((batch.values == 0).any())

    def event_values(self, field: FieldOf, t: Tensor, y: Tensor) -> Tensor:
        """[b, events]."""
        return torch.stack([field.value(event.fn, t, y) for event in self.problem.events], dim=1)

    def look(self, field: FieldOf, batch: Batch, step: SampleStep, accepted: Tensor, t1: Tensor) -> list[Tensor]:
        """Compare the events' functions at both ends of a step; whether any changed sign, whether any is zero."""
        events, after, before = self.problem.events, self.event_values(field, t1, step.y1), batch.values
        if self.zero:  # the signs are those just behind the start
            early = torch.full_like(step.t, AFTER)
            before = torch.stack([value_at(field, step, event, early) for event in events], dim=1)
        columns = [crossed(before[:, i], after[:, i], event.direction) for i, event in enumerate(events)]
        happened = torch.stack(columns, dim=1) & accepted.unsqueeze(1)
        self.seen = before, after, happened
        batch.values = torch.where(accepted.unsqueeze(1), after, batch.values)
        return [happened.any(), (after == 0).any()]

    def events(self, field: FieldOf, batch: Batch, step: SampleStep, any_happened: bool, zero: bool) -> Tensor | None:
        """Read off the events seen in a round; the fraction of the step at which each sample stops."""
        before, after, happened = self.seen
        start, self.zero = AFTER if self.zero else 0.0, zero
        if not any_happened:
            return None
        theta = torch.full_like(before, NEVER)
        for i, event in enumerate(self.problem.events):
            low = torch.where(happened[:, i], start, 1.0)  # a bracket of no width where there is nothing to find
            ends = torch.where(happened[:, i], before[:, i], -1.0), torch.where(happened[:, i], after[:, i], 1.0)
            at = roots(functools.partial(value_at, field, step, event), low, *ends)
            theta[:, i] = torch.where(happened[:, i], torch.where(at < 1 - 1e-9, at, 1.0), NEVER)
        ends_it = torch.tensor([event.terminal for event in self.problem.events], device=theta.device)
        stop = torch.where(ends_it, theta, NEVER).amin(1)
        for i in range(len(self.problem.events)):
            (place,) = (happened[:, i] & (theta[:, i] <= stop)).nonzero(as_tuple=True)
            at, sample = theta[place, i], batch.sample[place]
            self.readout.events.append((self.count, sample, i, step.t[place] + at * step.h[place]))
            self.add(Read(self.count, place, at, True), step)
        return stop


def value_at(field: FieldOf, step: SampleStep, event: Event, theta: Tensor) -> Tensor:
    """g at t + theta h [b] of all samples in hand, each at its own fraction."""
    y = step.between(torch.arange(len(theta), device=theta.device), theta)
    return field.value(event.fn, step.t + theta * step.h, y)
