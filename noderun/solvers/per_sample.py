"""Every sample of a batch solved with its own time, step and status, as if it were alone.

The decisions are those of ``Stepper``, on tensors [b] of times and step sizes, and the host waits once a round. As
every sample in hand makes one attempt a round, what depends on attempts alone is counted on the host. Samples that are
done or have failed are taken out when they are a quarter of those in hand.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from noderun.solvers.batch import clipped, first_batch, first_sizes, fixed_step, ratios
from noderun.solvers.sample_field import FieldOf
from noderun.solvers.sample_formulas import formula_of
from noderun.solvers.sample_outputs import NEVER, SampleOutputs
from noderun.solvers.sample_problem import (
    DONE,
    EVENT,
    LIMIT,
    NEWTON,
    NONFINITE,
    RUNNING,
    UNDERFLOW,
    Replay,
    SampleProblem,
)
from noderun.solvers.sample_step import SampleStep, Start, spread
from noderun.solvers.tableau import combined

Observe = Callable[[Replay], None]


def integrate_samples(problem: SampleProblem, observe: Observe | None = None) -> Tensor:
    """The rows [R, N] of ``problem.readout``, without history; ``observe`` sees every round's accepted steps."""
    with torch.no_grad():
        walk = Walk(problem, observe)
        while walk.alive:
            walk.round()
    return torch.cat(walk.outputs.rows)


class Walk:
    """All samples from their first to their last time, one attempt of each a round."""

    def __init__(self, problem: SampleProblem, observe: Observe | None) -> None:
        self.problem, self.observe, self.control = problem, observe, problem.control
        self.estimate = not problem.control.fixed
        self.formula = formula_of(problem.method, problem.control, problem.y0)
        self.memory = self.formula.memory(problem.y0)
        self.outputs = SampleOutputs(problem)
        self.batch = first_batch(
            problem.y0.detach(), problem.ts, len(problem.events), self.control.controller.max_factor
        )
        self.field: FieldOf = problem.field.of(None)
        self.rounds = self.calls = 0  # attempts and calls of f of every sample in hand
        self.known = False  # whether batch.slope is f(t, y)
        self.alive = int(self.batch.live.sum())
        if self.alive:
            self.start()
        self.shrink()

    def start(self) -> None:
        batch, problem, control = self.batch, self.problem, self.control
        if problem.events:
            self.outputs.start(self.field, batch)
        if self.estimate:
            batch.slope = self.field(batch.t, batch.y)
            batch.h = first_sizes(control, self.field, batch, batch.slope, problem.method.error_order)
            self.known = True
            self.calls = 1 if control.first_step is not None else 2
        problem.stats.status.copy_(torch.where(batch.live, RUNNING, DONE))

    def round(self) -> None:
        """One attempt of every sample, and what follows from it."""
        batch, control, outputs = self.batch, self.control, self.outputs
        if self.rounds >= control.max_steps:
            self.settle(torch.full_like(batch.steps, LIMIT), batch.t, batch.live)
            return
        h, cut, t1 = self.sizes()
        start = Start(self.field, batch.t, batch.y, h, batch.slope if self.known else None)
        step = self.formula.step(start, self.memory, self.estimate)
        ratio, accepted, sound = self.judge(step)
        limit = torch.add(t1, h, alpha=1e-9)
        passed = accepted & (limit >= batch.next)
        events = outputs.look(self.field, batch, step, accepted, t1) if self.problem.events else []
        flags = torch.stack([passed.any(), batch.live.gt(sound).any(), *events])  # gt: live and not sound
        any_passed, trouble, *happened = flags.tolist()  # the one wait of a round
        outputs.reads.clear()
        stop = outputs.events(self.field, batch, step, *happened) if happened else None
        if any_passed:
            outputs.passed(batch, step, accepted, limit, stop)
        if self.observe is not None:
            self.show(step, accepted, self.observe)
        self.rounds, self.calls = self.rounds + 1, self.calls + step.calls
        code = self.diagnose(step, ratio, accepted) if trouble else RUNNING
        self.advance(step, accepted, ratio, cut, t1)
        if trouble and ratio is not None:
            shrunk = 0.1 * h if step.failed is None else torch.where(step.failed, 0.5 * h, 0.1 * h)
            batch.h = torch.where(torch.isfinite(ratio), batch.h, shrunk)
        if any_passed or trouble or stop is not None:
            self.finish(torch.where(accepted & (t1 == batch.end), DONE, code), step, stop)

    def sizes(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """The step sizes of a round, where they were cut, and the times at which the steps end."""
        batch, control = self.batch, self.control
        left = batch.end - batch.t
        if not self.estimate:
            h = fixed_step(control.dt or 0.0, batch)
            return h, None, torch.where(h == left, batch.end, batch.t + h)
        if control.min_step > 0 or control.max_step < math.inf:
            batch.h = batch.h.clamp(control.min_step, control.max_step)
        h, cut = clipped(batch.h, left)
        return h, cut, torch.where(h == left, batch.end, batch.t + h)

    def judge(self, step: SampleStep) -> tuple[Tensor | None, Tensor, Tensor]:
        """The error in units of the tolerance, whether a step is accepted, and whether it is a sound one, each [b]."""
        batch, control = self.batch, self.control
        if not self.estimate:
            finite = torch.isfinite(step.y1).all(1)
            finite = finite if step.failed is None else finite & ~step.failed
            return None, batch.live & finite, finite
        found = [ratios(control, error, step.y, step.y1) for error in step.errors]
        ratio = combined(*found) if len(found) == 2 else found[0]
        ratio = ratio if step.failed is None else torch.where(step.failed, torch.nan, ratio)
        finite, large = ratio < torch.inf, torch.add(batch.t, batch.h, alpha=1 / 8) != batch.t  # h > 4 ulp(t)
        small = ratio <= 1
        if control.min_step > 0:
            small = small | (finite & (step.h <= control.min_step))
        return ratio, batch.live & small & large, finite & large

    def diagnose(self, step: SampleStep, ratio: Tensor | None, accepted: Tensor) -> Tensor:
        """Why another attempt makes no sense [b], RUNNING where it does."""
        batch = self.batch
        slope = self.field(step.t, step.y) if step.slope is None else step.slope
        lost = ~torch.isfinite(slope).all(1)
        failed = torch.zeros_like(lost) if step.failed is None else step.failed
        if ratio is None:
            return torch.where(accepted, RUNNING, torch.where(failed & ~lost, NEWTON, NONFINITE))
        no_number = torch.isnan(batch.h)
        tiny = no_number | (torch.add(batch.t, batch.h, alpha=1 / 8) == batch.t)
        why = torch.where(batch.diverged == batch.steps, NEWTON, UNDERFLOW)
        why = torch.where(no_number | (batch.nonfinite == batch.steps), NONFINITE, why)
        met = ~tiny & ~torch.isfinite(ratio)
        batch.nonfinite = torch.where(met & ~failed, batch.steps, batch.nonfinite)
        batch.diverged = torch.where(met & failed, batch.steps, batch.diverged)
        return torch.where(tiny, why, torch.where(met & lost, NONFINITE, RUNNING))

    def show(self, step: SampleStep, accepted: Tensor, observe: Observe) -> None:
        """Hand on the accepted steps of a round."""
        reads = self.outputs.reads
        if not self.problem.compact:
            h = torch.where(accepted, step.h, 0.0)
            observe(Replay(None, step.t, h, step.y, tuple(reads), step.solved))
            return
        position, sample = accepted.cumsum(0) - 1, self.batch.sample[accepted]
        if not len(sample):
            return
        moved = tuple(dataclasses.replace(read, place=position[read.place]) for read in reads)
        t, h, y, *solved = (x[accepted] for x in (step.t, step.h, step.y, *step.solved))
        observe(Replay(sample, t, h, y, moved, tuple(solved)))

    def advance(self, step: SampleStep, accepted: Tensor, ratio: Tensor | None, cut: Tensor | None, t1: Tensor) -> None:
        """Move the accepted, choose every sample's next step size."""
        batch, controller = self.batch, self.control.controller
        moved = spread(accepted, step.y)
        if ratio is not None and cut is not None:
            factor = self.formula.factors(ratio, batch.errors, step, self.memory)
            factor = factor.minimum(torch.where(accepted, batch.cap, 0.9))
            # A step that was cut short says little about the size that the tolerance allows.
            batch.h = torch.maximum(step.h * factor, batch.h * (cut & accepted))
            batch.cap = torch.where(accepted, controller.max_factor, 1.0)
            if controller.proportional or controller.derivative or self.formula.history:
                latest = torch.stack([ratio, batch.errors[:, 0]], dim=1)
                batch.errors = torch.where(accepted.unsqueeze(1), latest, batch.errors)
        self.formula.accept(step, self.memory, accepted)
        self.known = step.end is not None
        if step.end is not None:
            batch.slope = torch.where(moved, step.end, batch.slope if step.slope is None else step.slope)
        batch.t, batch.y = torch.where(accepted, t1, batch.t), torch.where(moved, step.y1, batch.y)
        batch.steps = batch.steps + accepted

    def finish(self, code: Tensor, step: SampleStep, stop: Tensor | None) -> None:
        t = self.batch.t
        if stop is not None:
            code = torch.where(stop < NEVER, EVENT, code)
            t = torch.where(stop < NEVER, step.t + stop * step.h, t)
        finished = self.batch.live & (code != RUNNING)
        if finished.any():
            self.settle(code, t, finished)

    def settle(self, code: Tensor, t: Tensor, finished: Tensor) -> None:
        """Write down what is finished."""
        batch, stats = self.batch, self.problem.stats
        sample = batch.sample[finished]
        stats.status[sample], stats.t[sample] = code[finished], self.field.natural(t)[finished]
        stats.accepted[sample] = batch.steps[finished]
        stats.rejected[sample] = self.rounds - batch.steps[finished]
        stats.nfe_forward[sample] += self.calls + self.memory.calls[finished]
        stats.jacobians[sample] = self.memory.jacobians[finished]
        batch.live, batch.h = batch.live & ~finished, torch.where(finished, 0.0, batch.h)
        self.alive -= len(sample)
        self.shrink()

    def shrink(self) -> None:
        """Take out who is done, where that pays."""
        if self.problem.compact and 0 < self.alive < 0.75 * self.batch.live.shape[0]:
            place = self.batch.live.nonzero(as_tuple=True)[0]
            self.batch, self.memory = self.batch.take(place), self.memory.take(place)
            self.field = self.problem.field.of(self.batch.sample)
