"""What follows from the record of many rounds: outputs, statistics, and what a gradient observes of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.solvers.per_sample.attempt import Attempt
from noderun.ode.solvers.per_sample.batch import Batch
from noderun.ode.solvers.per_sample.outputs import SampleOutputs
from noderun.ode.solvers.per_sample.problem import DONE, LIMIT, RUNNING, OutputRead, SampleProblem
from noderun.ode.solvers.per_sample.step import BatchedMethod, SampleStep, StepStart, dense_weights
from noderun.ode.solvers.per_sample.steps import calls_at_start
from noderun.ode.solvers.tableau import ButcherTableau
from noderun.ode.solvers.times import NEAR

Observe = Callable[[Attempt, Batch, list[OutputRead]], None]  # a round: what was tried, by whom, what was read off it


@dataclass
class Rounds:
    """K rounds in a row: their ``table`` on the host and, as the rest, on the device; see ``SampleRounds``."""

    ts: Tensor  # [B, T] on the host
    table: Tensor  # [K, 5, B] on the host
    live: bool  # whether a sample is still under way
    batch: Batch  # after the rounds
    made: Tensor  # the table
    states: Tensor | None  # [K, B, N]
    increments: Tensor | None  # [K, s, B, N]

    @staticmethod
    def of(ts: Tensor, batch: Batch, table: Tensor, states: Tensor | None, increments: Tensor | None) -> Rounds:
        """Read the record; the one wait."""
        size, k = len(ts), len(table)
        live = batch.live.any().double().reshape(1)
        found = torch.cat([table.flatten(), ts.flatten(), live]).cpu().split([table.numel(), ts.numel(), 1])
        rows = (x if x is None else x[:k] for x in (states, increments))
        return Rounds(found[1].view(size, -1), found[0].view(k, 5, size), bool(found[2] > 0), batch, table, *rows)


class RecordReader:
    """Reads a solve off the records of its rounds, in their order."""

    def __init__(self, problem: SampleProblem, formula: BatchedMethod, observe: Observe | None) -> None:
        self.problem, self.formula, self.observe = problem, formula, observe
        self.outputs = SampleOutputs(problem)
        self.rounds = 0
        zeros = torch.zeros(len(problem.y0), dtype=torch.int64)
        # [B] each: the code of samples that are finished, the rounds until then, steps accepted, outputs behind
        self.code, self.tried, self.accepted, self.behind = zeros + RUNNING, zeros.clone(), zeros.clone(), zeros.clone()

    def take(self, rounds: Rounds) -> None:
        """Read off what the next rounds have passed, and count."""
        if not self.rounds:
            self.behind = (rounds.ts == rounds.ts[:, :1]).sum(1)
            self.code = torch.where(rounds.ts[:, 0] != rounds.ts[:, -1], RUNNING, DONE)
        reads = self.read(rounds)
        if self.observe is not None:
            self.show(rounds, reads, self.observe)
        accepted, code = rounds.table[:, 3] > 0, rounds.table[:, 4].long()
        number = self.rounds + 1 + torch.arange(len(code)).unsqueeze(1)
        self.code, self.tried = self.code + code.sum(0), self.tried + (number * (code != RUNNING)).sum(0)
        self.accepted, self.rounds = self.accepted + accepted.sum(0), self.rounds + len(code)

    def read(self, rounds: Rounds) -> list[list[OutputRead]]:
        """The rows of all outputs that the rounds have passed, in the rounds' order; what was read off each round."""
        which, sample, column = self.passed(rounds)
        t, h = rounds.table[which, 0, sample], rounds.table[which, 1, sample]
        theta = (rounds.ts[sample, column] - t) / h
        end = theta >= 1 - NEAR
        theta = torch.where(end, 1.0, theta)
        first, device = self.outputs.count, self.problem.y0.device
        there, place, place_in_ts, fraction, whole = (
            x.to(device, non_blocking=True) for x in (which, sample, column, theta, end)
        )
        self.outputs.index.asked.append((first, place, place_in_ts, whole))
        self.outputs.rows.append(self.values(rounds, there, place, fraction))
        self.outputs.count += len(which)
        reads: list[list[OutputRead]] = []
        ends, done = end.tolist(), 0
        for many in torch.bincount(which, minlength=len(rounds.table)).tolist():
            part = slice(done, done + many)
            read = OutputRead(first + done, place[part], fraction[part], not all(ends[part]))
            reads.append([read] if many else [])
            done += many
        return reads

    def passed(self, rounds: Rounds) -> tuple[Tensor, Tensor, Tensor]:
        """The round [n], sample and column of ts of each output between the starts and the ends of accepted steps."""
        _, h, t1, accepted, _ = rounds.table.unbind(1)
        limit = torch.where(accepted > 0, torch.add(t1, h, alpha=NEAR), -torch.inf).cummax(0).values
        at = torch.searchsorted(limit.t().contiguous(), rounds.ts)
        new = (at < len(limit)) & (torch.arange(at.shape[1]) >= self.behind.unsqueeze(1))
        self.behind = self.behind + new.sum(1)
        sample, column = new.nonzero(as_tuple=True)
        order = at[sample, column].argsort(stable=True)
        sample, column = sample[order], column[order]
        return at[sample, column], sample, column

    def values(self, rounds: Rounds, which: Tensor, sample: Tensor, theta: Tensor) -> Tensor:
        """y [n, N] at fractions of steps, y1 itself at theta = 1."""
        if rounds.states is None or rounds.increments is None:  # at the ends of solves, where samples stay
            return rounds.batch.y[sample]
        weights = dense_weights(self.formula.dense, theta).t().to(rounds.states.dtype).unsqueeze(2)
        inside = rounds.states[which, sample] + (weights * rounds.increments[which, :, sample]).sum(1)
        y1 = torch.cat([rounds.states[1:], rounds.batch.y.unsqueeze(0)])[which, sample]
        return torch.where((theta == 1).unsqueeze(1), y1, inside)

    def show(self, rounds: Rounds, reads: list[list[OutputRead]], observe: Observe) -> None:
        """Let ``observe`` see the rounds in which a step was accepted."""
        assert rounds.states is not None
        numbers, states, field = rounds.made.clone(), rounds.states.clone(), self.problem.field.of(None)
        for k in (rounds.table[:, 3] > 0).any(1).nonzero().flatten().tolist():
            t, h, t1, accepted, _ = numbers[k].unbind()
            step = SampleStep(StepStart(field, t, states[k], h), self.formula.dense)
            observe(Attempt(step, t1, None, accepted > 0, accepted > 0), rounds.batch, reads[k])

    def finish(self, batch: Batch, tableau: ButcherTableau) -> Tensor:
        """The rows [R, N], after all rounds; fills the statistics."""
        stats, control, field = self.problem.stats, self.problem.control, self.problem.field
        under_way = self.code == RUNNING  # after as many rounds as there may be
        code, tried = torch.where(under_way, LIMIT, self.code), torch.where(under_way, self.rounds, self.tried)
        # Before the first attempt f is called to choose its size, which a method without a last stage at its end needs.
        start = 0 if control.fixed else calls_at_start(control) - (not tableau.fsal)
        calls = torch.where(tried > 0, start + tried * (tableau.stages - tableau.fsal), 0)
        found = {"status": code, "accepted": self.accepted, "rejected": tried - self.accepted, "nfe_forward": calls}
        for name, value in found.items():
            getattr(stats, name).copy_(value, non_blocking=True)
        stats.t.copy_(field.natural(batch.t))
        return torch.cat(self.outputs.rows)
