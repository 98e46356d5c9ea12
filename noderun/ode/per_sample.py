"""solve() with per_sample=True: a batch of initial value problems, each with its own times, steps and status."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from noderun.ode.arguments import FINITE
from noderun.ode.gradients import Gradient
from noderun.ode.gradients.field_checks import checked_values
from noderun.ode.gradients.output_times import DifferentiableTimes
from noderun.ode.gradients.parameters import named_params, params_to_differentiate
from noderun.ode.solvers import Event, Occurrences
from noderun.ode.solvers.events import describe_event, rates
from noderun.ode.solvers.field import Autocast, fingerprint
from noderun.ode.solvers.graphed import GraphedRungeKutta
from noderun.ode.solvers.outputs import NODES
from noderun.ode.solvers.per_sample.dense import SampleDense, at_times, every_step
from noderun.ode.solvers.per_sample.field import BatchedField, SampleField
from noderun.ode.solvers.per_sample.methods import batched_method
from noderun.ode.solvers.per_sample.problem import FAILED, FAILURES, STATUS, SampleProblem, SampleStatistics
from noderun.ode.solvers.per_sample.stepper import integrate_samples
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.statistics import interpolated


@dataclass
class BatchedSolution:
    """What solve() with ``per_sample=True`` returns: a ``Solution`` whose numbers are one per sample.

    ``ys`` [T, B, ...] in y0's nesting and ``ts`` [T] or [B, T] as given; with ``steps=True`` ts [n, B] and
    ys [n, B, ...] of the accepted steps, padded with NaN. ``stats`` has a tensor [B] per count, ``status`` a word per
    sample. The times and states of ``events`` are [n, B] and [n, B, ...], in order of time and padded with NaN.
    """

    ts: Tensor
    ys: Any
    stats: SampleStatistics
    status: list[str]
    events: tuple[Occurrences, ...] = ()
    dense: Callable[[Tensor], Tensor] | None = None
    layout: Layout | None = None

    def interpolate(self, t: Tensor | float) -> Any:
        """y [B, ...] at t [], or [n, B, ...] at t [n] or, per sample, [n, B]; ValueError without ``dense=True``."""
        return interpolated(self.dense, self.layout, t)


def sample_layout(y0: Any) -> Layout:
    """The layout of one sample of y0; ValueError if the leading dimensions of its tensors differ."""
    whole = Layout.of(y0)
    sizes = {shape[0] if shape else -1 for shape in whole.shapes}
    size = sizes.pop()
    if sizes or size < 0:
        raise ValueError("with per_sample=True every tensor of y0 has the samples as its first dimension, [B, ...]")
    shapes = tuple(shape[1:] for shape in whole.shapes)
    counts = tuple(shape.numel() for shape in shapes)
    return Layout(shapes, counts, whole.rebuild, whole.keys, whole.single)


def sample_times(ts: Tensor, size: int) -> Tensor:
    """Times [B, T] from [T] or [B, T]; ValueError if a row is not monotone."""
    times = ts.expand(size, -1) if ts.dim() == 1 else ts
    if times.dim() != 2 or times.shape[0] != size or times.shape[1] == 0:
        raise ValueError(f"ts has shape {list(ts.shape)}; with {size} samples of their own it is [T] or [{size}, T]")
    steps = times.detach().double().diff(dim=1)
    if not ((steps >= 0).all(1) | (steps <= 0).all(1)).all():
        raise ValueError(
            "ts is not monotone for a sample; the times of each are increasing or decreasing, and may repeat"
        )
    return times


def sample_problem(
    f: Callable[..., Any],
    y0: Any,
    layout: Layout,
    ts: Tensor,
    args: tuple[Any, ...],
    params: Iterable[Tensor] | None,
    **choices: Any,
) -> SampleProblem:
    """The problem as gradient methods receive it; ``layout`` is that of one sample, ``choices`` its other fields."""
    leaves = (Layout.of(y0).as_pairs() if layout.pairs else Layout.of(y0)).leaves(y0)
    size = len(leaves[0])
    flat = torch.cat([leaf.reshape(size, n) for leaf, n in zip(leaves, layout.sizes, strict=True)], dim=1)
    times = sample_times(ts, size).detach().double()  # looked at where they are, usually on the host
    finite = times[:, : max(1, times.shape[1] - any(event.terminal for event in choices["events"]))]
    if not finite.isfinite().all() or times.isnan().any():
        raise ValueError(f"ts holds NaN or infinity; {FINITE}")
    sign = torch.where(times[:, -1] < times[:, 0], -1.0, 1.0)
    back = bool((sign < 0).any())
    times, sign = ((x * s).to(flat.device) for x, s in ((times, sign.unsqueeze(1)), (sign, 1.0)))
    field = SampleField(f, layout, args, Autocast(flat.device.type), sign.to(flat.dtype.to_real()), back)
    stats = SampleStatistics.of(size, flat.device)
    choices["control"] = choices["control"].fitted(flat.new_empty(sum(layout.sizes)))
    if torch.is_grad_enabled():
        choices["params"] = params_to_differentiate(named_params(f), params, args)
    return SampleProblem(field=field, y0=flat, ts=times, stats=stats, **choices)


def solve_samples(problem: SampleProblem, gradient: Gradient, ts: Tensor, steps: bool, throw: bool) -> BatchedSolution:
    """The solution with the gradient behind it."""
    times = sample_times(ts, len(problem.y0))
    with problem.field.autocast.outside():
        differentiated, method = torch.is_grad_enabled(), problem.method
        if isinstance(method, GraphedRungeKutta) and method.sample_graphs(problem):
            problem = replace(problem, compact=False)
        ready = prepared(problem, gradient, times) if differentiated else problem
        rows = gradient.solve_per_sample(ready) if differentiated else integrate_samples(ready)
        solution = make_solution(problem, rows, times, ts, steps)
    failures = [i for i, word in enumerate(solution.status) if word in FAILED]
    if throw and failures:
        raise failure(problem, solution, failures)
    return solution


def prepared(problem: SampleProblem, gradient: Gradient, times: Tensor) -> SampleProblem:
    """The problem with y0 as a function of the first times, too; ValueError if f cannot be differentiated."""
    if times.requires_grad:  # if t_0 moves forward, y_0 moves by -f
        (y0,) = DifferentiableTimes.apply(
            lambda t, y: -time_derivative(problem, t, y), problem.y0.unsqueeze(0), times[:, :1].t()
        )
        problem = replace(problem, y0=y0)
    if not gradient.recorded_by_autograd:
        batched_method(problem.method, problem.control, problem.y0)  # refuses a method before f is called
        check_field(problem)
    return problem


def check_field(problem: SampleProblem) -> None:
    """Check f at the start, as for one solution; this call does not count in the solve's NFE."""

    def call(y: Tensor, args: tuple[Any, ...]) -> list[Tensor]:
        field = problem.field
        return [BatchedField(field, args, field.sign, field.bounds)(problem.ts[:, 0], y)]

    (slope,) = checked_values(call, problem.y0, problem.field.args, problem.params, strict=True)
    problem.field.witness = (0.0, fingerprint(slope))  # each at its start


def time_derivative(problem: SampleProblem, t: Tensor, y: Tensor) -> Tensor:
    """dy/dt [B, N] of the whole batch at t [B]; taken at its start for a sample that did not reach t."""
    field, stats = problem.field, problem.stats
    there = torch.isfinite(y.detach()).all(1)
    s = torch.where(there, field.natural(t.double()), problem.ts[:, 0])
    with field.autocast.outside():
        slope = field.of(None)(s, torch.where(there.unsqueeze(1), y, problem.y0.detach()))
    stats.nfe_backward = there.long() if stats.nfe_backward is None else stats.nfe_backward + there
    return field.natural(slope.t()).t()


def make_solution(problem: SampleProblem, rows: Tensor, sample_ts: Tensor, ts: Tensor, steps: bool) -> BatchedSolution:
    """The rows of a solve in the caller's nesting; ``sample_ts`` [B, T] are the times of the samples."""
    layout = problem.field.layout
    if steps:
        times, ys = every_step(problem, rows)
        ts = times.to(ts.dtype)
    else:
        ys = at_times(problem, rows)
        if sample_ts.requires_grad and torch.is_grad_enabled():
            ys = DifferentiableTimes.apply(functools.partial(time_derivative, problem), ys, sample_ts.t())
    return BatchedSolution(
        ts=ts,
        ys=layout.rebuild(layout.split(ys)),
        stats=problem.stats,
        status=[STATUS[code] for code in problem.stats.status.tolist()],
        events=tuple(occurrences(problem, rows, i, ts.dtype) for i in range(len(problem.events))),
        dense=SampleDense(problem, rows) if problem.fractions == NODES else None,
        layout=layout,
    )


def occurrences(problem: SampleProblem, rows: Tensor, which: int, dtype: torch.dtype) -> Occurrences:
    """The times [n, B] and states [n, B, ...] of one event, differentiable."""
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
    pairs = [differentiable_event(problem, problem.events[which], t, y) for t, y in zip(ts, ys, strict=True)]
    times = torch.stack([t for t, _ in pairs]) if pairs else problem.ts.new_empty(0, size)
    states = torch.stack([y for _, y in pairs]) if pairs else y0.new_empty(0, *y0.shape)
    return Occurrences(problem.field.natural(times).to(dtype), layout.rebuild(layout.split(states)))


def differentiable_event(problem: SampleProblem, event: Event, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Times [B] and states [B, N] of one occurrence with the gradients of the implicit function theorem.

    f and the event see the whole batch: at their start for samples without this occurrence, whose result is NaN.
    """
    if not torch.is_grad_enabled():
        return t, y
    field, there = problem.field.of(None), torch.isfinite(t)
    at, state = torch.where(there, t, problem.ts[:, 0]), torch.where(there.unsqueeze(1), y, problem.y0.detach())
    at = field.within(at)
    value = field.value(event, at, state)
    if not value.requires_grad:
        return t, y
    with torch.no_grad():
        slope = field(at, state)
    problem.stats.nfe_forward += there
    rate = rates(lambda t, y: field.value(event, t, y), at, state.detach(), slope)
    shift = -(value - value.detach()) / torch.where(there & (rate != 0), rate, torch.inf)
    return t + shift.double(), y + slope * shift.unsqueeze(1).to(y.dtype.to_real())


def failure(problem: SampleProblem, solution: BatchedSolution, failures: list[int]) -> Exception:
    """The error of the first sample that failed; its ``solution`` is that of all samples."""
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
