"""Rounds of samples with steps of their own, made, judged and recorded on the device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.captured.capture import Capture, Captures
from noderun.ode.solvers.captured.sample_pull import SamplePull
from noderun.ode.solvers.graphed import room_for
from noderun.ode.solvers.per_sample.attempt import Attempt
from noderun.ode.solvers.per_sample.batch import Batch, first_batch
from noderun.ode.solvers.per_sample.field import SampleField
from noderun.ode.solvers.per_sample.problem import SampleOutputIndex, SampleProblem
from noderun.ode.solvers.per_sample.record import Rounds
from noderun.ode.solvers.per_sample.steps import SampleSteps
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta

FIRST_ROUNDS = 8  # before the host looks for the first time, until a solve has shown how many it takes


class SampleRounds:
    """A batch [B, N] at fixed addresses: ``load`` puts it there, ``round`` makes an attempt of every sample.

    ``table`` [room, 5, B] holds t, h, the end, whether it was accepted, and the code of each; ``states`` [room, B, N]
    and ``increments`` [room, s, B, N] y and h k_i, if ``rows`` says so. A sample that is finished stays as it is.
    ``known``: whether f at the start of an attempt is the last stage of the one before.
    """

    def __init__(self, problem: SampleProblem, known: bool, rows: int, pool: Any) -> None:
        y, stages = problem.y0, rows - 1
        self.steps, self.known = SampleSteps(problem), known
        self.batch = Batch(*(getattr(self.steps.batch, f.name).clone() for f in fields(Batch)))
        self.room, self.count = room_for(y.numel(), rows), torch.zeros(1, dtype=torch.int64, device=y.device)
        self.table = torch.zeros(self.room, 5, len(y), dtype=torch.float64, device=y.device)
        self.states = y.new_empty(self.room, *y.shape) if rows else None
        self.increments = y.new_empty(self.room, stages, *y.shape) if rows > 1 else None
        made = (self.begin, self.round)
        self.replays = {work.__name__: Capture(work, self.rest, y.device, pool) for work in made}

    def rest(self) -> None:
        self.count.zero_()
        self.batch.live.zero_()
        self.batch.h.zero_()

    def load(self, problem: SampleProblem) -> None:
        load_field(self.steps.problem.field, problem.field)
        fresh = first_batch(problem.y0.detach(), problem.ts, problem.field.sign, problem.control, 0)
        for f in fields(Batch):
            getattr(self.batch, f.name).copy_(getattr(fresh, f.name))
        self.count.zero_()

    def begin(self) -> None:
        self.in_place(self.steps.begin)

    def round(self) -> None:
        self.steps.known = self.known
        self.in_place(lambda: self.leave(*self.steps.judged()))
        self.count.add_(1)

    def in_place(self, work: Callable[[], None]) -> None:
        """Do what puts other tensors into the batch, and copy them to where it lies."""
        self.steps.batch = replace(self.batch)
        work()
        for f in fields(Batch):
            here, new = getattr(self.batch, f.name), getattr(self.steps.batch, f.name)
            if new is not here:
                here.copy_(new)

    def leave(self, attempt: Attempt, code: Tensor) -> None:
        """Record a round; before a capture there may be more than there is room for."""
        step, place = attempt.step, self.count.clamp_max(self.room - 1)
        row = [step.t, step.h, attempt.t1, attempt.accepted.double(), code.double()]
        self.table.index_copy_(0, place, torch.stack(row).unsqueeze(0))
        if self.states is not None:
            self.states.index_copy_(0, place, step.y.unsqueeze(0))
        if self.increments is not None:
            self.increments.index_copy_(0, place, step.increments().unsqueeze(0))


def load_field(own: SampleField, given: SampleField) -> None:
    """Copy what the field of one solve has of its own to where a captured field has it."""
    for here, new in zip(own.bounds, given.bounds, strict=True):
        here.copy_(new)
    if own.sign is not None and given.sign is not None:
        own.sign.copy_(given.sign)


class CapturedSamples(Captures):
    """What is replayed for one f, one shape of a batch and one choice of steps."""

    def __init__(self, method: ExplicitRungeKutta, problem: SampleProblem) -> None:
        super().__init__(problem.field.f, problem.field.args)
        self.method = method
        self.kinds: dict[int, SampleRounds] = {}
        self.pulls: dict[Any, SamplePull] = {}
        self.expected = FIRST_ROUNDS

    def rounds(self, problem: SampleProblem, observed: bool) -> SampleRounds | None:
        """The rounds of a problem at their start, captured; None if they cannot be. ``observed``: by a gradient."""
        rows = len(self.method.tableau.dense) + 1 if problem.ts.shape[1] > 2 else int(observed)
        names = ("round",) if problem.control.fixed else ("begin", "round")
        rounds = self.prepared(self.kinds, rows, partial(self.make, problem, rows), names)
        if rounds is not None:
            self.load_args(problem.field.args)
            rounds.load(problem)
        return rounds

    def make(self, problem: SampleProblem, rows: int) -> SampleRounds:
        known = self.method.tableau.fsal and not problem.control.fixed
        return SampleRounds(self.own(problem, self.f), known, rows, self.pool)

    def own(self, problem: SampleProblem, f: Callable[..., Any]) -> SampleProblem:
        """The problem with tensors of its own, whose addresses stay, and without a reference to the caller's."""
        field = copy.copy(problem.field)
        field.f, field.args, field.autocast, field.first = f, self.args, field.autocast.without_cache(), False
        field.sign = None if field.sign is None else field.sign.clone()
        return replace(problem, field=field, y0=problem.y0.detach().clone(), params=(), outputs=SampleOutputIndex())

    def pull(self, problem: SampleProblem, params: Mapping[str, Tensor], inside: bool) -> SamplePull | None:
        """What pulls back one round; None if it cannot be captured. ``inside``: with outputs inside the steps."""

        def make() -> SamplePull:
            leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
            own = self.own(problem, self.differentiable(leaves))
            return SamplePull(own, tuple(leaves.values()), len(self.method.tableau.dense) if inside else 0, self.pool)

        pull = self.prepared(self.pulls, (inside, tuple(params)), make, ("pull",))
        if pull is not None:
            self.load_args(problem.field.args)
            load_field(pull.problem.field, problem.field)
            for total in pull.param_grads:
                total.zero_()
        return pull

    def replay(self, rounds: SampleRounds, problem: SampleProblem) -> Iterator[Rounds]:
        """The records of all rounds, as many at a time as there is room for; each look at them waits."""
        if not problem.control.fixed:
            rounds.replays["begin"]()
        left, live, total = problem.control.max_steps, True, 0
        while live and left:
            made, more = 0, 1
            rounds.count.zero_()
            batch = max(1, self.expected - total)
            while live and made < min(rounds.room, left):
                batch = min(batch, rounds.room - made, left - made)
                for _ in range(batch):
                    rounds.replays["round"]()
                made, batch, more = made + batch, more, 2 * more
                found = Rounds.of(problem.ts, rounds.batch, rounds.table[:made], rounds.states, rounds.increments)
                live = found.live
            left, total = left - made, total + made
            yield found
