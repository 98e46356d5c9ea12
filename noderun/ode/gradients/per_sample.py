"""Gradients of a batch whose samples took steps of their own: each round's accepted steps made again under autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.per_sample_adjoint import adjoint, check_start
from noderun.ode.solvers.per_sample.attempt import Attempt
from noderun.ode.solvers.per_sample.batch import Batch
from noderun.ode.solvers.per_sample.methods import batched_method
from noderun.ode.solvers.per_sample.problem import OutputRead, RoundRecord, SampleProblem
from noderun.ode.solvers.per_sample.step import BatchedMethod, SampleStep, StepStart
from noderun.ode.solvers.per_sample.stepper import Observe, integrate_samples
from noderun.ode.solvers.torch_internals import add_to_each


def backprop(problem: SampleProblem) -> Tensor:
    """The rows with the graph of every accepted step behind them; those steps cost their calls of f once more."""
    replays: list[RoundRecord] = []
    integrate_samples(problem, recorder(problem, replays))
    formula, y, rows = batched_method(problem.method, problem.control, problem.y0), problem.y0, [problem.y0]
    for replay in replays:
        step = again(problem, formula, replay, y if replay.samples is None else y[replay.samples])
        rows.extend(read.of(step) for read in replay.reads)
        if replay.samples is None:
            y = torch.where((replay.h != 0).unsqueeze(1), step.y1, y)
        else:
            y = y.index_copy(0, replay.samples, step.y1)
        count(problem.stats.nfe_forward, replay, step)
    return torch.cat(rows)


def checkpointed(problem: SampleProblem) -> Tensor:
    """The rows, with each round replayed in the backward pass: only the states at accepted steps are held."""
    return Checkpointed.apply(problem, problem.y0, *problem.params)


SOLVES: dict[str, Callable[[SampleProblem], Tensor]] = {
    "backprop": backprop,
    "checkpointed": checkpointed,
    "adjoint": adjoint,
}


def recorder(problem: SampleProblem, replays: list[RoundRecord]) -> Observe:
    """Appends the accepted steps of each round."""

    def record(attempt: Attempt, batch: Batch, reads: list[OutputRead]) -> None:
        step, accepted = attempt.step, attempt.accepted
        if not problem.compact:
            h = torch.where(accepted, step.h, 0.0)
            solved = (torch.where(accepted.view(-1, *[1] * (x.dim() - 1)), x, 0.0) for x in step.newton_stages)
            replays.append(RoundRecord(None, step.t, h, step.y, tuple(reads), tuple(solved)))
            return
        position, sample = accepted.cumsum(0) - 1, batch.sample[accepted]
        if len(sample):
            moved = tuple(replace(read, place=position[read.place]) for read in reads)
            t, h, y, *found = (x[accepted] for x in (step.t, step.h, step.y, *step.newton_stages))
            replays.append(RoundRecord(sample, t, h, y, moved, tuple(found)))

    return record


def again(problem: SampleProblem, formula: BatchedMethod, replay: RoundRecord, y: Tensor) -> SampleStep:
    return formula.replay(StepStart(problem.field.of(replay.samples), replay.t, y, replay.h), replay.newton_stages)


def count(nfe: Tensor, replay: RoundRecord, step: SampleStep) -> None:
    if replay.samples is None:
        nfe += step.calls * (replay.h != 0)
    else:
        nfe[replay.samples] += step.calls


class Checkpointed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: SampleProblem, y0: Tensor, *params: Tensor) -> Tensor:
        ctx.problem, ctx.replays = problem, []
        return integrate_samples(problem, recorder(problem, ctx.replays))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("gradient='checkpointed' can be differentiated once; use gradient='backprop' for more")
        problem, (cotangents,) = ctx.problem, grads
        stats, formula = problem.stats, batched_method(problem.method, problem.control, problem.y0)
        nfe = torch.zeros_like(stats.nfe_forward)
        a = torch.zeros_like(problem.y0)
        thetas = [torch.zeros_like(p) for p in problem.params]
        with problem.field.autocast.outside():
            check_start("checkpointed", problem)
            for replay in reversed(ctx.replays):
                a = pull_back(problem, formula, replay, a, cotangents, thetas, nfe)
        stats.nfe_backward = nfe if stats.nfe_backward is None else stats.nfe_backward + nfe
        return None, a + cotangents[: len(a)], *thetas


def pull_back(
    problem: SampleProblem,
    formula: BatchedMethod,
    replay: RoundRecord,
    a: Tensor,
    cotangents: Tensor,
    thetas: list[Tensor],
    nfe: Tensor,
) -> Tensor:
    """dL/dy [B, N] at the starts of a round's steps from ``a`` at their ends; dL/dtheta is added to ``thetas``."""
    y, samples = replay.y.detach().requires_grad_(), replay.samples
    with torch.enable_grad():
        step = again(problem, formula, replay, y)
        ends = [step.y1, *(read.of(step) for read in replay.reads)]
    count(nfe, replay, step)
    above = a if samples is None else a[samples]
    given = [above, *(cotangents[read.first : read.first + len(read.place)] for read in replay.reads)]
    grads = torch.autograd.grad(ends, (y, *problem.params), given, allow_unused=True)
    used = [(total, g) for total, g in zip(thetas, grads[1:], strict=True) if g is not None]
    if used:
        add_to_each([total for total, _ in used], [g for _, g in used])
    return grads[0] if samples is None else a.index_copy(0, samples, grads[0])
