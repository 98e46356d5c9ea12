"""solve() with per_sample=True: a batch of initial value problems, each with its own times, steps and status."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noderun.ode.arguments import FINITE
from noderun.ode.gradients.examination import examined
from noderun.ode.gradients.info import GradientOptions
from noderun.ode.gradients.per_sample import SOLVES
from noderun.ode.gradients.times import AtTimes
from noderun.ode.solvers import Event, Occurrences, Solution
from noderun.ode.solvers.events import describe_event, rates
from noderun.ode.solvers.field import Autocast, fingerprint
from noderun.ode.solvers.outputs import NODES
from noderun.ode.solvers.per_sample.dense import SampleDense, at_times, every_step
from noderun.ode.solvers.per_sample.field import BatchedField, SampleField
from noderun.ode.solvers.per_sample.methods import batched_method
from noderun.ode.solvers.per_sample.problem import FAILURES, STATUS, SampleProblem, SampleStatistics
from noderun.ode.solvers.per_sample.stepper import integrate_samples
from noderun.ode.solvers.state import Layout


def sample_layout(y0: Any) -> Layout:
    """The layout of one sample of y0; ValueError where the tensors' leading dimensions differ."""
    whole = Layout.of(y0)
    sizes = {shape[0] if shape else -1 for shape in whole.shapes}
    size = sizes.pop()
    if sizes or size < 0:
        raise ValueError("with per_sample=True every tensor of y0 has the samples as its first dimension, [B, ...]")
    shapes = tuple(shape[1:] for shape in whole.shapes)
    counts = tuple(shape.numel() for shape in shapes)
    return Layout(shapes, counts, whole.rebuild, whole.keys, whole.single)


def sample_times(ts: Tensor, size: int) -> Tensor:
    """[B, T] in double precision from [T] or [B, T]; ValueError where a row is not monotone."""
    times = ts.expand(size, -1) if ts.dim() == 1 else ts
    if times.dim() != 2 or times.shape[0] != size or times.shape[1] == 0:
        raise ValueError(f"ts has shape {list(ts.shape)}; with {size} samples of their own it is [T] or [{size}, T]")
    steps = times.detach().double().diff(dim=1)
    if not ((steps >= 0).all(1) | (steps <= 0).all(1)).all():
        raise ValueError("ts goes forth and back for a sample; times are monotone, either way for each")
    return times


def sample_problem(f: Any, y0: Any, layout: Layout, ts: Tensor, args: tuple[Any, ...], **choices: Any) -> SampleProblem:
    """``layout`` is that of one sample; ``choices`` are the problem's other fields."""
    leaves = (Layout.of(y0).as_pairs() if layout.pairs else Layout.of(y0)).leaves(y0)
    size = len(leaves[0])
    flat = torch.cat([leaf.reshape(size, n) for leaf, n in zip(leaves, layout.sizes, strict=True)], dim=1)
    way = sample_times(ts, size).detach().to(flat.device, torch.float64)
    finite = way[:, : max(1, way.shape[1] - any(event.terminal for event in choices["events"]))]
    if not finite.isfinite().all() or way.isnan().any():
        raise ValueError(f"ts holds NaN or infinity; {FINITE}")
    sign = torch.where(way[:, -1:] < way[:, :1], -1.0, 1.0)
    field = SampleField(f, layout, args, Autocast(flat.device.type), sign[:, 0].to(flat.dtype.to_real()))
    stats = SampleStatistics.of(size, flat.device)
    choices["control"] = choices["control"].fitted(flat.new_empty(sum(layout.sizes)))
    return SampleProblem(field=field, y0=flat, ts=way * sign, stats=stats, **choices)


def refuse_gradient(gradient: str, chosen: GradientOptions) -> None:
    """ValueError where this gradient method, or a choice within it, has one time for all samples."""
    if gradient not in SOLVES:
        raise ValueError(f"gradient '{gradient}' has one time for all samples: with per_sample=True use 'checkpointed'")
    if chosen.checkpoints is not None:
        raise ValueError(f"per_sample=True takes gradient '{gradient}' without checkpoints")


def solve_samples(problem: SampleProblem, gradient: str, ts: Tensor, steps: bool, throw: bool) -> Solution:
    """``Solution.ys`` [T, B, ...]; statistics and status for each sample."""
    times = sample_times(ts, len(problem.y0))
    with problem.field.autocast.outside():
        solution = assembled(problem, with_gradient(problem, gradient, times), times, ts, steps)
    failures = [i for i, code in enumerate(problem.stats.status.tolist()) if code in FAILURES]
    if throw and failures:
        raise failure(problem, solution, failures)
    return solution


def with_gradient(problem: SampleProblem, gradient: str, times: Tensor) -> Tensor:
    """The rows with the chosen gradient behind them."""
    if not torch.is_grad_enabled():
        return integrate_samples(problem)
    if times.requires_grad:  # moving t_0 forward moves y_0 by -f
        (y0,) = AtTimes.apply(lambda t, y: -rate(problem, t, y), problem.y0.unsqueeze(0), times[:, :1].t())
        problem = replace(problem, y0=y0)
    if gradient != "backprop":
        batched_method(problem.method, problem.control, problem.y0)  # refuses a method before f is called
        examine(problem)
    return SOLVES[gradient](problem)


def examine(problem: SampleProblem) -> None:
    """Look at f at the start, as for one solution; this call is no part of the solve."""

    def call(y: Tensor, args: tuple[Any, ...]) -> list[Tensor]:
        field = problem.field
        return [BatchedField(field, args, field.sign, field.bounds)(problem.ts[:, 0], y)]

    (slope,) = examined(call, problem.y0, problem.field.args, problem.params, strict=True)
    problem.field.witness = (0.0, fingerprint(slope))  # each at its start


def rate(problem: SampleProblem, t: Tensor, y: Tensor) -> Tensor:
    """dy/dt [B, N] of the whole batch at t [B]; a sample that did not arrive there stands at its start."""
    field, stats = problem.field, problem.stats
    there = torch.isfinite(y.detach()).all(1)
    s = torch.where(there, field.natural(t.double()), problem.ts[:, 0])
    with field.autocast.outside():
        slope = field.of(None)(s, torch.where(there.unsqueeze(1), y, problem.y0.detach()))
    stats.nfe_backward = there.long() if stats.nfe_backward is None else stats.nfe_backward + there
    return field.natural(slope.t()).t()


def assembled(problem: SampleProblem, rows: Tensor, way: Tensor, ts: Tensor, steps: bool) -> Solution:
    """What the caller asked for out of the rows of a solve; ``way`` are the times [B, T] of the samples."""
    layout = problem.field.layout
    if steps:
        times, ys = every_step(problem, rows)
        ts = times.to(ts.dtype)
    else:
        ys = at_times(problem, rows)
        if way.requires_grad and torch.is_grad_enabled():
            ys = AtTimes.apply(functools.partial(rate, problem), ys, way.t())
    return Solution(
        ts=ts,
        ys=layout.rebuild(layout.split(ys)),
        stats=problem.stats,
        status=[STATUS[code] for code in problem.stats.status.tolist()],
        events=tuple(occurrences(problem, rows, i, ts.dtype) for i in range(len(problem.events))),
        dense=SampleDense(problem, rows) if problem.fractions == NODES else None,
        layout=layout,
    )


def occurrences(problem: SampleProblem, rows: Tensor, which: int, dtype: torch.dtype) -> Occurrences:
    """When and where one event happened to each sample, [n, B] and [n, B, ...], with gradients."""
    y0, size, layout = problem.y0, len(problem.y0), problem.field.layout
    count = torch.zeros(size, dtype=torch.long, device=y0.device)
    ts: list[Tensor] = []
    ys: list[Tensor] = []
    for first, sample, event, at in problem.outputs.events:
        if event != which or not len(sample):
            continue
        while len(ts) <= int(count[sample].max()):
            ts.append(problem.ts.new_full((size,), torch.nan))
            ys.append(torch.full_like(y0.detach(), torch.nan))
        for slot in count[sample].unique().tolist():
            chosen = (count[sample] == slot).nonzero(as_tuple=True)[0]
            ts[slot] = ts[slot].index_copy(0, sample[chosen], at[chosen])
            ys[slot] = ys[slot].index_copy(0, sample[chosen], rows[first + chosen])
        count[sample] += 1
    pairs = [differentiable(problem, problem.events[which], t, y) for t, y in zip(ts, ys, strict=True)]
    times = torch.stack([t for t, _ in pairs]) if pairs else problem.ts.new_empty(0, size)
    states = torch.stack([y for _, y in pairs]) if pairs else y0.new_empty(0, *y0.shape)
    return Occurrences(problem.field.natural(times).to(dtype), layout.rebuild(layout.split(states)))


def differentiable(problem: SampleProblem, event: Event, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Times [B] and states [B, N] of one occurrence with the gradients of the implicit function theorem.

    f and the event see the whole batch; samples to which it did not happen stand at their start, and NaN in the result.
    """
    if not torch.is_grad_enabled():
        return t, y
    field, there = problem.field.of(None), torch.isfinite(t)
    at, state = torch.where(there, t, problem.ts[:, 0]), torch.where(there.unsqueeze(1), y, problem.y0.detach())
    at = field.within(at)
    value = field.value(event.fn, at, state)
    if not value.requires_grad:
        return t, y
    with torch.no_grad():
        slope = field(at, state)
    problem.stats.nfe_forward += there
    rate = rates(lambda t, y: field.value(event.fn, t, y), at, state.detach(), slope)
    shift = -(value - value.detach()) / torch.where(there & (rate != 0), rate, torch.inf)
    return t + shift.double(), y + slope * shift.unsqueeze(1)


def failure(problem: SampleProblem, solution: Solution, failures: list[int]) -> Exception:
    """The error of the first sample that failed, with what all samples reached."""
    stats, sample = problem.stats, failures[0]
    kind, what = FAILURES[int(stats.status[sample])]
    if sample in problem.outputs.lost:
        what = f"{describe_event(problem.events, problem.outputs.lost[sample])} is NaN"
    t, step = stats.t[sample].item(), int(stats.accepted[sample])
    others = f"; {len(failures) - 1} more samples failed" if len(failures) > 1 else ""
    where = f"sample {sample}, t = {t:.6g}, after {step} steps{others}"
    error = kind(f"{what} ({where}): {kind.remedy}", t, step)
    error.sample, error.solution = sample, solution
    return error
