"""Every sample of a batch solved with its own time, step and status, as if it were alone.

The decisions are those of ``Stepper``, on tensors [b] of times and step sizes, and the host waits once per round. Every
sample makes one attempt per round, so what depends on attempts alone is counted on the host. Samples that are done or
have failed are taken out when they are a quarter of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.ode.solvers.graphed import GraphedRungeKutta
from noderun.ode.solvers.per_sample.attempt import Attempt, after_no_number, failure_code
from noderun.ode.solvers.per_sample.batch import gather_rows
from noderun.ode.solvers.per_sample.outputs import NO_EVENT, SampleOutputs
from noderun.ode.solvers.per_sample.problem import DONE, EVENT, EVENT_NAN, LIMIT, RUNNING, SampleProblem
from noderun.ode.solvers.per_sample.record import Observe, RecordReader
from noderun.ode.solvers.per_sample.steps import SampleSteps, calls_at_start
from noderun.ode.solvers.times import NEAR


def integrate_samples(problem: SampleProblem, observe: Observe | None = None) -> Tensor:
    """The rows [R, N] of ``problem.outputs``, without history; ``observe`` sees every round."""
    with torch.no_grad():
        found = replayed(problem, observe)
        if found is not None:
            return found
        stepper = BatchedStepper(problem, observe)
        while stepper.alive:
            stepper.round()
        problem.stats.t.copy_(problem.field.natural(problem.stats.t))
    return torch.cat(stepper.outputs.rows)


def replayed(problem: SampleProblem, observe: Observe | None) -> Tensor | None:
    """The same if a GPU replays the rounds; None if it does not."""
    method = problem.method
    graphs = method.sample_graphs(problem) if isinstance(method, GraphedRungeKutta) else None
    rounds = None if graphs is None else graphs.rounds(problem, observe is not None)
    if graphs is None or rounds is None:
        return None
    reader = RecordReader(problem, rounds.steps.method, observe)
    for record in graphs.replay(rounds, problem):
        reader.take(record)
    graphs.expected = max(1, int(reader.tried.max()))
    return reader.finish(rounds.batch, graphs.method.tableau)


class BatchedStepper(SampleSteps):
    """All samples from their first to their last time, one attempt of each per round."""

    def __init__(self, problem: SampleProblem, observe: Observe | None) -> None:
        super().__init__(problem)
        self.observe, self.outputs = observe, SampleOutputs(problem)
        self.rounds = self.calls = 0  # attempts and calls of f of every sample
        self.jumps = bool(self.control.jumps)
        self.alive = int(self.batch.live.sum())
        problem.stats.t.copy_(problem.ts[:, -1])
        if self.alive:
            self.start()
        self.shrink()

    def start(self) -> None:
        batch, problem = self.batch, self.problem
        if problem.events:
            self.outputs.start(self.field, batch)
        if self.estimate:
            self.begin()
            self.calls = calls_at_start(self.control)
        problem.stats.status.copy_(torch.where(batch.live, RUNNING, DONE))

    def round(self) -> None:
        """One attempt of every sample, and what follows from it."""
        batch, outputs = self.batch, self.outputs
        if self.rounds >= self.control.max_steps:
            self.settle(torch.full_like(batch.steps, LIMIT), batch.t, batch.live)
            return
        attempt = self.attempt()
        step, accepted = attempt.step, attempt.accepted
        limit = torch.add(attempt.t1, step.h, alpha=NEAR)
        passed = accepted & (limit >= batch.next)
        flags = [passed.any(), batch.live.gt(attempt.finite).any()]  # gt: live and not finite
        if self.problem.events:
            flags += outputs.look(self.field, batch, step, accepted, attempt.t1)
        any_passed, trouble, *watched = torch.stack(flags).tolist()  # the one wait of a round
        happened, nan = watched or (False, False)
        outputs.reads.clear()
        stop = outputs.events(self.field, batch, step) if happened else None
        if any_passed:
            outputs.passed(batch, step, accepted, limit, stop)
        if self.problem.fractions:
            outputs.step(batch, step, accepted)
        if self.observe is not None:
            self.observe(attempt, batch, outputs.reads)
        self.rounds, self.calls = self.rounds + 1, self.calls + step.calls
        self.conclude(attempt, trouble, stop, outputs.lost(batch, stop) if nan else None, any_passed)

    def conclude(
        self, attempt: Attempt, trouble: bool, stop: Tensor | None, lost: Tensor | None, any_passed: bool
    ) -> None:
        """Prepare the next round, and settle the samples that are finished.

        ``stop``: the fraction of the step at which events end it; ``lost``: the samples whose event has no value.
        """
        batch, step = self.batch, attempt.step
        code: Tensor | int = RUNNING
        if trouble:
            slope = self.field(step.t, step.y) if step.slope is None else step.slope
            code = failure_code(attempt, slope, batch, self.control.min_step)
        self.advance(attempt)
        if trouble:
            batch.h = after_no_number(batch.h, attempt)
        if self.jumps:
            self.cross(attempt)
        if lost is not None:
            code = torch.where(lost, EVENT_NAN, code)
        if any_passed or trouble or stop is not None or lost is not None:
            self.finish(attempt, code, stop)

    def cross(self, attempt: Attempt) -> None:
        """Go on behind a jump of f if a step ended just before it."""
        batch = self.batch
        at = attempt.accepted & (attempt.t1 == batch.stop) & (batch.stop != batch.end)
        if not at.any():
            return
        batch.segment = batch.segment + at
        batch.t = torch.where(at, gather_rows(batch.starts, batch.segment), batch.t)
        batch.stop, batch.begun = gather_rows(batch.stops, batch.segment), torch.where(at, batch.steps, batch.begun)
        self.method.restart(self.state, at)
        if self.known:
            batch.slope = torch.where(at.unsqueeze(1), self.field(batch.t, batch.y), batch.slope)
            self.calls += 1

    def finish(self, attempt: Attempt, code: Tensor | int, stop: Tensor | None) -> None:
        batch, step = self.batch, attempt.step
        code, t = self.arrived(attempt, code), batch.t
        if stop is not None:
            code = torch.where(stop < NO_EVENT, EVENT, code)
            t = torch.where(stop < NO_EVENT, step.t + stop * step.h, t)
        finished = batch.live & (code != RUNNING)
        if finished.any():
            self.settle(code, t, finished)

    def settle(self, code: Tensor, t: Tensor, finished: Tensor) -> None:
        """Write the statistics of the samples that are finished."""
        batch, stats = self.batch, self.problem.stats
        sample = batch.sample[finished]
        stats.status[sample], stats.t[sample] = code[finished], t[finished]
        stats.accepted[sample] = batch.steps[finished]
        stats.rejected[sample] = self.rounds - batch.steps[finished]
        stats.nfe_forward[sample] += self.calls + self.state.calls[finished]
        stats.jacobians[sample] = self.state.jacobians[finished]
        batch.live, batch.h = batch.live & ~finished, torch.where(finished, 0.0, batch.h)
        self.alive -= len(sample)
        self.shrink()

    def shrink(self) -> None:
        """Take out the samples that are done, if that pays."""
        if self.problem.compact and 0 < self.alive < 0.75 * self.batch.live.shape[0]:
            place = self.batch.live.nonzero(as_tuple=True)[0]
            self.batch, self.state = self.batch.take(place), self.state.take(place)
            self.field = self.problem.field.of(self.batch.sample)
