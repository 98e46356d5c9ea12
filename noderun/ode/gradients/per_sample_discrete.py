"""Exact gradients of a batch in which each sample has steps of its own: its accepted steps repeated under autograd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from noderun.ode.gradients.parameters import named_params
from noderun.ode.gradients.per_sample_adjoint import check_start, count_backward
from noderun.ode.gradients.solve_function import Gradients, Recorded, SolveFunction
from noderun.ode.solvers.graphed import GraphedRungeKutta
from noderun.ode.solvers.per_sample.attempt import Attempt
from noderun.ode.solvers.per_sample.batch import Batch
from noderun.ode.solvers.per_sample.methods import batched_method
from noderun.ode.solvers.per_sample.problem import OutputRead, RoundRecord, SampleProblem
from noderun.ode.solvers.per_sample.record import Observe
from noderun.ode.solvers.per_sample.step import BatchedMethod, SampleStep, StepStart
from noderun.ode.solvers.per_sample.stepper import integrate_samples
from noderun.ode.solvers.torch_internals import add_to_each

if TYPE_CHECKING:
    from noderun.ode.solvers.captured.sample_pull import SamplePull


def backprop(problem: SampleProblem) -> Tensor:
    """The rows with the graph of every accepted step; the accepted steps are repeated once, at their cost of f."""
    rounds: list[RoundRecord] = []
    integrate_samples(problem, recorder(problem, rounds))
    formula, y, rows = batched_method(problem.method, problem.control, problem.y0), problem.y0, [problem.y0]
    for record in rounds:
        step = repeated(problem, formula, record, y if record.samples is None else y[record.samples])
        rows.extend(read.of(step) for read in record.reads)
        if record.samples is None:
            y = torch.where((record.h != 0).unsqueeze(1), step.y1, y)
        else:
            y = y.index_copy(0, record.samples, step.y1)
        count_calls(problem.stats.nfe_forward, record, step)
    return torch.cat(rows)


def checkpointed(problem: SampleProblem) -> Tensor:
    """The rows; each round is repeated in the backward pass, and only the states at accepted steps are held."""
    return SolveFunction.apply("checkpointed", problem, record_rounds, pull_back, problem.y0, *problem.params)


def record_rounds(problem: SampleProblem) -> Recorded:
    rounds: list[RoundRecord] = []
    return integrate_samples(problem, recorder(problem, rounds)), (), rounds


def pull_back(problem: SampleProblem, saved: list[Tensor], rounds: list[RoundRecord], rows_grad: Tensor) -> Gradients:
    formula = batched_method(problem.method, problem.control, problem.y0)
    nfe, adjoint = torch.zeros_like(problem.stats.nfe_forward), torch.zeros_like(problem.y0)
    param_grads = [torch.zeros_like(p) for p in problem.params]
    with problem.field.autocast.outside():
        check_start("checkpointed", problem)
        pulls = captured_pulls(problem, rounds)
        for record in reversed(rounds):
            if pulls is None:
                adjoint = pull_back_round(problem, formula, record, adjoint, rows_grad, param_grads, nfe)
            else:
                adjoint = pulls[record.inside].go_back(record, adjoint, rows_grad, nfe)
        for pull in pulls.values() if pulls and param_grads else ():
            add_to_each(param_grads, pull.param_grads)
    count_backward(problem, nfe)
    return adjoint + rows_grad[: len(adjoint)], param_grads


def captured_pulls(problem: SampleProblem, rounds: Sequence[RoundRecord]) -> dict[bool, SamplePull] | None:
    """What a GPU replays to go back, by whether outputs lie inside a round's steps; None if autograd goes back."""
    method, named = problem.method, named_params(problem.field.f)
    graphs = method.sample_graphs(problem) if isinstance(method, GraphedRungeKutta) else None
    names = {id(p): name for name, p in named.items()}
    declared = isinstance(problem.field.f, nn.Module) and all(id(p) in names for p in problem.params)
    if graphs is None or not declared or any(record.samples is not None for record in rounds):
        return None
    params = {names[id(p)]: p for p in problem.params}
    pulls = {inside: graphs.pull(problem, params, inside) for inside in {record.inside for record in rounds}}
    return None if any(pull is None for pull in pulls.values()) else pulls


def recorder(problem: SampleProblem, rounds: list[RoundRecord]) -> Observe:
    """Appends the accepted steps of each round."""

    def record(attempt: Attempt, batch: Batch, reads: list[OutputRead]) -> None:
        step, accepted = attempt.step, attempt.accepted
        if not problem.compact:
            h = torch.where(accepted, step.h, 0.0)
            solved = (torch.where(accepted.view(-1, *[1] * (x.dim() - 1)), x, 0.0) for x in step.newton_stages)
            rounds.append(RoundRecord(None, step.t, h, step.y, tuple(reads), tuple(solved)))
            return
        position, sample = accepted.cumsum(0) - 1, batch.sample[accepted]
        if len(sample):
            moved = tuple(replace(read, place=position[read.place]) for read in reads)
            t, h, y, *found = (x[accepted] for x in (step.t, step.h, step.y, *step.newton_stages))
            rounds.append(RoundRecord(sample, t, h, y, moved, tuple(found)))

    return record


def repeated(problem: SampleProblem, formula: BatchedMethod, record: RoundRecord, y: Tensor) -> SampleStep:
    return formula.replay(StepStart(problem.field.of(record.samples), record.t, y, record.h), record.newton_stages)


def count_calls(nfe: Tensor, record: RoundRecord, step: SampleStep) -> None:
    if record.samples is None:
        nfe += step.calls * (record.h != 0)
    else:
        nfe[record.samples] += step.calls


def pull_back_round(
    problem: SampleProblem,
    formula: BatchedMethod,
    record: RoundRecord,
    adjoint: Tensor,
    rows_grad: Tensor,
    param_grads: list[Tensor],
    nfe: Tensor,
) -> Tensor:
    """dL/dy [B, N] at the starts of a round's steps from the ``adjoint`` at their ends; adds to ``param_grads``."""
    y, samples = record.y.detach().requires_grad_(), record.samples
    with torch.enable_grad():
        step = repeated(problem, formula, record, y)
        ends = [step.y1, *(read.of(step) for read in record.reads)]
    count_calls(nfe, record, step)
    at_end = adjoint if samples is None else adjoint[samples]
    cotangents = [at_end, *(rows_grad[read.first : read.first + len(read.place)] for read in record.reads)]
    grads = torch.autograd.grad(ends, (y, *problem.params), cotangents, allow_unused=True)
    used = [(total, g) for total, g in zip(param_grads, grads[1:], strict=True) if g is not None]
    if used:
        add_to_each([total for total, _ in used], [g for _, g in used])
    return grads[0] if samples is None else adjoint.index_copy(0, samples, grads[0])
