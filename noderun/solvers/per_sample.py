"""Every sample of a batch solved with its own time, step and status, as if it were alone.

The decisions are those of ``Stepper``, on tensors [b] of times and step sizes: what it decides with ``if``, this
decides with ``where``, and the host waits once a round. Samples that are done or have failed are taken out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from noderun.solvers.batch import clipped, first_batch, first_sizes, fixed_step, limited, next_size, ratios, too_small
from noderun.solvers.events import AFTER, Event, crossed
from noderun.solvers.roots import roots
from noderun.solvers.sample_problem import (
    DONE,
    EVENT,
    LIMIT,
    NONFINITE,
    RUNNING,
    UNDERFLOW,
    Read,
    Replay,
    SampleProblem,
)
from noderun.solvers.sample_step import Formula, SampleStep
from noderun.solvers.tableau import combined


def integrate_samples(problem: SampleProblem, observe: Callable[[Replay], None] | None = None) -> Tensor:
    """The rows [R, N] of ``problem.readout``, without history; ``observe`` sees every round's accepted steps."""
    with torch.no_grad():
        walk = Walk(problem, observe)
        while walk.under_way:
            walk.round()
    return torch.cat(walk.rows)


class Walk:
    """All samples from their first to their last time, one attempt of each a round."""

    def __init__(self, problem: SampleProblem, observe: Callable[[Replay], None] | None) -> None:
        self.problem, self.observe, self.control = problem, observe, problem.control
        self.estimate = not problem.control.fixed
        self.formula = Formula(problem.method.tableau, problem.y0)
        self.rows, self.count = [problem.y0.detach()], len(problem.y0)
        problem.readout.clear()
        self.batch = first_batch(problem.y0.detach(), problem.ts, len(problem.events))
        self.evaluate = problem.field.of(None)
        self.known = False  # whether batch.slope is f(t, y)
        self.zero = False  # whether an event's function is zero where a sample stands
        self.under_way = bool(self.batch.live.any())
        if self.under_way:
            self.start()
        self.shrink()

    def start(self) -> None:
        batch, problem = self.batch, self.problem
        batch.values = self.event_values(batch.t, batch.y)
        self.zero = bool((batch.values == 0).any())
        if self.estimate:
            batch.slope = self.evaluate(batch.t, batch.y)
            batch.h = first_sizes(self.control, self.evaluate, batch, batch.slope, problem.method.error_order)
            self.known = True
            problem.stats.nfe_forward += batch.live * (1 if self.control.first_step is not None else 2)
        problem.stats.status.copy_(torch.where(batch.live, RUNNING, DONE))

    def round(self) -> None:
        """One attempt of every sample, and what follows from it."""
        batch, control = self.batch, self.control
        tried = limited(control, batch.h) if self.estimate else fixed_step(control.dt or 0.0, batch)
        code = self.refused(tried)
        going = batch.live & (code == RUNNING)
        left = batch.end - batch.t
        h = torch.where(going, clipped(tried, left) if self.estimate else tried, 0.0)
        step = SampleStep(
            self.formula, self.evaluate, batch.t, batch.y, h, batch.slope if self.known else None, self.estimate
        )
        ratio = self.ratio(step) if self.estimate else torch.zeros_like(h)
        small = (ratio <= 1) | ((h.abs() <= control.min_step) & torch.isfinite(ratio))
        accepted = going & small & (torch.isfinite(step.y1).all(1) if not self.estimate else True)
        lost = going & ~accepted & ~torch.isfinite(step.slopes[0] if self.estimate else step.y1).all(1)
        code = torch.where(lost, NONFINITE, code)
        t1 = torch.where(h == left, batch.end, batch.t + h)
        code = torch.where(accepted & (t1 == batch.end), DONE, code)
        reads, stop, finished = self.read(step, accepted, t1, code)
        if self.observe is not None:
            self.keep(step, accepted, reads)
        self.advance(step, going, accepted, tried, ratio, t1)
        self.problem.stats.nfe_forward.index_add_(0, batch.sample, step.calls * going)
        self.settle(torch.where(stop <= 1, EVENT, code), torch.where(stop <= 1, step.t + stop * h, batch.t), finished)

    def ratio(self, step: SampleStep) -> Tensor:
        """The error of every sample in units of the tolerance [b]."""
        parts = [step.error(weights) for weights in (self.formula.error, self.formula.low_error) if len(weights)]
        found = [ratios(self.control, part, step.y, step.y1) for part in parts]
        return combined(*found) if len(found) == 2 else found[0]

    def refused(self, tried: Tensor) -> Tensor:
        """Why another attempt makes no sense [b], RUNNING where it does."""
        batch = self.batch
        code = torch.full_like(batch.steps, RUNNING)
        if self.estimate:
            why = torch.where(batch.nonfinite | torch.isnan(tried), NONFINITE, UNDERFLOW)
            code = torch.where(too_small(tried, batch.t), why, code)
        return torch.where(batch.attempts >= self.control.max_steps, LIMIT, code)

    def read(self, step: SampleStep, accepted: Tensor, t1: Tensor, code: Tensor) -> tuple[list[Read], Tensor, bool]:
        """Outputs and events of a round; the fraction of the step where each sample stops (2: nowhere), and whether any
        sample is finished."""
        batch = self.batch
        theta = (batch.ts - step.t.unsqueeze(1)) / step.h.unsqueeze(1)
        behind = torch.arange(batch.ts.shape[1], device=theta.device) < batch.read.unsqueeze(1)
        passed = accepted.unsqueeze(1) & ~behind & (theta <= 1 + 1e-9)
        values = self.event_values(t1, step.y1)
        before = self.event_values_after(step) if self.zero else batch.values
        happened = torch.zeros_like(values, dtype=torch.bool)
        for i, event in enumerate(self.problem.events):
            happened[:, i] = accepted & crossed(before[:, i], values[:, i], event.direction)
        asked = (passed.any(), (passed & (theta < 1 - 1e-9)).any(), happened.any(), (values == 0).any())
        some = torch.stack([*asked, (batch.live & (code != RUNNING)).any()])
        any_passed, any_inside, any_happened, zero, finished = some.tolist()  # the one wait of a round
        reads: list[Read] = []
        stop = torch.full_like(step.t, 2.0)
        if any_happened:
            stop = self.take_events(step, before, values, happened, reads)
        if any_passed:
            self.take_outputs(step, passed & (theta <= stop.unsqueeze(1)), theta, any_inside, reads)
        batch.read = batch.read + passed.sum(1)
        batch.values, self.zero = torch.where(accepted.unsqueeze(1), values, batch.values), zero
        return reads, stop, finished or any_happened

    def take_outputs(self, step: SampleStep, passed: Tensor, theta: Tensor, inside: bool, reads: list[Read]) -> None:
        place, column = passed.nonzero(as_tuple=True)
        at = theta[passed]
        at = torch.where(at < 1 - 1e-9, at, 1.0)
        self.problem.readout.asked.append((self.count, self.batch.sample[place], column))
        self.add(Read(self.count, place, at, inside), step, reads)

    def take_events(
        self, step: SampleStep, before: Tensor, after: Tensor, happened: Tensor, reads: list[Read]
    ) -> Tensor:
        """Locate the events of a round; the fraction of the step at which each sample stops, 2 where none does."""
        start = AFTER if self.zero else 0.0
        theta = torch.full_like(before, 2.0)
        for i, event in enumerate(self.problem.events):
            found = happened[:, i]
            low = torch.where(found, start, 1.0)  # a bracket of no width where there is nothing to find
            ends = torch.where(found, before[:, i], -1.0), torch.where(found, after[:, i], 1.0)
            at = roots(functools.partial(self.event_value, step, event), low, *ends)
            theta[:, i] = torch.where(found, torch.where(at < 1 - 1e-9, at, 1.0), 2.0)
        ends_it = torch.tensor([event.terminal for event in self.problem.events], device=theta.device)
        stop = torch.where(ends_it, theta, 2.0).amin(1)
        for i in range(len(self.problem.events)):
            (place,) = (happened[:, i] & (theta[:, i] <= stop)).nonzero(as_tuple=True)
            at, sample = theta[place, i], self.batch.sample[place]
            self.problem.readout.events.append((self.count, sample, i, step.t[place] + at * step.h[place]))
            self.add(Read(self.count, place, at, True), step, reads)
        return stop

    def event_value(self, step: SampleStep, event: Event, theta: Tensor) -> Tensor:
        """g at t + theta h [b] of all samples in hand, each at its own fraction."""
        y = step.between(torch.arange(len(theta), device=theta.device), theta)
        return self.problem.field.values(event.fn, step.t + theta * step.h, y).double()

    def event_values(self, t: Tensor, y: Tensor) -> Tensor:
        """[b, events]."""
        values = [self.problem.field.values(event.fn, t, y).double() for event in self.problem.events]
        return torch.stack(values, dim=1) if values else t.new_empty(len(t), 0)

    def event_values_after(self, step: SampleStep) -> Tensor:
        """The values just behind a step's start, where one is zero at it."""
        theta = torch.full_like(step.t, AFTER)
        return torch.stack([self.event_value(step, event, theta) for event in self.problem.events], dim=1)

    def add(self, read: Read, step: SampleStep, reads: list[Read]) -> None:
        reads.append(read)
        self.rows.append(read.of(step))
        self.count += len(read.place)

    def keep(self, step: SampleStep, accepted: Tensor, reads: list[Read]) -> None:
        assert self.observe is not None
        if not self.problem.compact:
            self.observe(Replay(None, step.t, torch.where(accepted, step.h, 0.0), step.y, tuple(reads)))
            return
        position = accepted.cumsum(0) - 1
        moved = tuple(dataclasses.replace(read, place=position[read.place]) for read in reads)
        sample = self.batch.sample[accepted]
        self.observe(Replay(sample, step.t[accepted], step.h[accepted], step.y[accepted], moved))

    def advance(
        self, step: SampleStep, going: Tensor, accepted: Tensor, tried: Tensor, ratio: Tensor, t1: Tensor
    ) -> None:
        """Move the accepted, choose every sample's next step size."""
        batch, order, moved = self.batch, self.problem.method.error_order, accepted.unsqueeze(1)
        rejected = going & ~accepted
        if self.estimate:
            batch.h = next_size(self.control, batch, step.h, tried, ratio, accepted, order)
            latest = torch.cat([ratio.unsqueeze(1), batch.errors[:, :2]], dim=1)
            batch.errors = torch.where(moved, latest, batch.errors)
            batch.nonfinite = rejected & ~torch.isfinite(ratio)
        last = step.last_slope()
        self.known = last is not None
        if last is not None:
            batch.slope = torch.where(moved, last, step.slopes[0])
        batch.retried = rejected
        batch.t, batch.y = torch.where(accepted, t1, batch.t), torch.where(moved, step.y1, batch.y)
        batch.steps, batch.attempts = batch.steps + accepted, batch.attempts + going

    def settle(self, code: Tensor, t: Tensor, finished: bool) -> None:
        """Write down what is finished, and take it out."""
        if not finished:
            return
        batch, stats = self.batch, self.problem.stats
        sample = batch.sample[batch.live]
        stats.status[sample], stats.t[sample] = code[batch.live], t[batch.live]
        stats.accepted[sample] = batch.steps[batch.live]
        stats.rejected[sample] = (batch.attempts - batch.steps)[batch.live]
        batch.live = batch.live & (code == RUNNING)
        self.shrink()

    def shrink(self) -> None:
        live = self.batch.live
        alive = int(live.sum())
        self.under_way = alive > 0
        if self.problem.compact and 0 < alive < len(live):
            self.batch = self.batch.take(live.nonzero(as_tuple=True)[0])
            self.evaluate = self.problem.field.of(self.batch.sample)
