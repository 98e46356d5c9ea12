"""solve(): one initial value problem through one solver and one gradient method."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noderun.ode.arguments import (
    FixedStep,
    checked_controller,
    checked_grid,
    checked_method,
    checked_norm,
    checked_precision,
    checked_state,
    checked_times,
    flattened,
    warn_of_coarse_times,
)
from noderun.ode.gradients import SOLVES, configured
from noderun.ode.gradients.dependence import again, dependencies, named_parameters
from noderun.ode.gradients.examination import examine
from noderun.ode.gradients.info import GradientOptions
from noderun.ode.gradients.times import AtTimes
from noderun.ode.per_sample import refuse_gradient, sample_layout, sample_problem, solve_samples
from noderun.ode.solvers import Event, Occurrences, Solution, SolveError, Statistics, StepController, StepOptions
from noderun.ode.solvers.control import Norm
from noderun.ode.solvers.dense import DenseOutput
from noderun.ode.solvers.events import differentiable_event
from noderun.ode.solvers.field import Autocast, VectorField
from noderun.ode.solvers.integrate import Problem, integrate
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.outputs import ENDS, NODES, OutputRecorder
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.torch_internals import under_transform


def solve(
    f: Callable[..., Any],
    y0: Any,
    ts: Tensor | Sequence[float],
    *,
    solver: str = "dopri5",
    solver_options: Mapping[str, Any] | None = None,
    compile: bool = False,
    rtol: float | Tensor = 1e-5,
    atol: float | Tensor = 1e-7,
    dt: FixedStep | None = None,
    gradient: str = "checkpointed",
    gradient_rtol: float | None = None,
    gradient_atol: float | None = None,
    gradient_options: Mapping[str, Any] | None = None,
    args: tuple[Any, ...] = (),
    params: Iterable[Tensor] | None = None,
    controller: str | StepController = "I",
    norm: str | Norm = "rms",
    first_step: float | None = None,
    min_step: float = 0.0,
    max_step: float = math.inf,
    max_steps: int = 100_000,
    jump_ts: Sequence[float] = (),
    events: Event | Sequence[Event] = (),
    steps: bool = False,
    dense: bool = False,
    per_sample: bool = False,
    compact: bool = True,
    throw: bool = True,
) -> Solution:
    """Integrate dy/dt = f(t, y, *args) from y0 at ts[0] and return y at every time of ts.

    ``y0`` is a tensor, or a tuple or dict of tensors, real or complex; ``ts`` [T] is strictly monotone, either way, and
    may require gradients. ``solver_options`` are the solver's own (``order`` of the multistep methods, ``method`` of
    richardson and scipy). ``dt`` None steps adaptively within atol + rtol |y|, a number steps by it, a sequence of
    times is the grid to step along. Gradients reach y0, ts, tensors in ``args`` and f's parameters, which are found
    where f is a Module or a method of one; a closure declares its own with ``params``. ``gradient_rtol`` and
    ``gradient_atol`` (default: the solve's) hold where the gradient is itself a solve;
    ``gradient_options`` are the gradient's own (``norm`` of adjoint, ``checkpoints`` of checkpointed and symplectic).

    ``compile`` makes the steps of an explicit Runge-Kutta method, with f inside, one compiled graph, many steps a call
    where nothing looks at single ones; once for each f and shape of the state (seconds, of a convolutional f half a
    minute). Where f or the machine cannot, a warning says so and steps stay as they are. Numbers in ``args`` are
    constants of a graph: give what changes as tensors.

    ``norm`` of the error: rms, max, items (the largest rms among a nested state's tensors) or a function of [N].
    Implicit solvers take a complex state as pairs of real numbers, also in the norm.
    A step of ``min_step`` is accepted whatever its error. f is called inside the interval of ts only. It may jump at
    ``jump_ts``, also at either end: steps end there and f is evaluated on each side for itself. ``events`` are located
    on the continuous extension, at which they are looked for four times a step; only with a terminal one may the last
    time be infinite. With ``steps`` the solution's ts and ys hold the accepted steps too, with ``dense``
    its ``interpolate(t)`` knows y at every time in between.

    With ``per_sample`` each sample of y0 [B, ...] has its own times (``ts`` [T] or [B, T], each row either way), steps,
    statistics and status, and takes the steps that it takes alone, by Runge-Kutta (explicit, diagonally implicit or
    collocation) and Rosenbrock methods. f receives t as [b, 1, ..., 1] and only the samples still under way, for which
    tensors in ``args`` with a leading dimension of B are gathered; ``compact=False`` keeps all of them in every call. A
    sample that fails is NaN from there on and does not stop the others. ``steps`` gives ts [n, B] and ys [n, B, ...],
    NaN behind a sample's last; the t of ``interpolate(t)`` is then [], [n] or [n, B].

    Raises SolveError subclasses with the partial ``solution``; with ``throw=False`` returns that one, NaN where the
    solve did not arrive. ValueError and TypeError for arguments that cannot work.

    >>> sol = solve(lambda t, y: -y, torch.tensor([1.0]), [0.0, 1.0], rtol=1e-6)
    >>> f"{sol.ys[-1].item():.4f} after {sol.stats.nfe_forward} evaluations"
    '0.3679 after 38 evaluations'
    """
    options = {**(solver_options or {}), **({"compile": True} if compile else {})}
    method = checked_method(solver, options, gradient, dt)
    layout, flat = laid_out(y0, method, per_sample)
    times = ts if isinstance(ts, Tensor) else torch.as_tensor(ts, dtype=torch.float64)
    watched = (events,) if isinstance(events, Event) else tuple(events)
    first = times[0] if per_sample and times.dim() == 2 else times
    host = checked_times(first, any(event.terminal for event in watched))
    ends = host if times.dim() < 2 else [times.min().item(), times.max().item()]
    step, grid = checked_grid(dt, ends)
    control = StepOptions(
        rtol=flattened(rtol, layout, flat),
        atol=flattened(atol, layout, flat),
        dt=step,
        grid=grid,
        max_steps=max_steps,
        first_step=first_step,
        min_step=min_step,
        max_step=max_step,
        jumps=tuple(sorted(jump_ts)),
        norm=checked_norm(norm, layout),
        controller=checked_controller(controller),
    )
    checked_precision(flat, method, control)
    warn_of_coarse_times(host, flat.dtype.to_real())
    chosen = configured(gradient, control.backward(gradient_rtol, gradient_atol), gradient_options or {})
    own = named_parameters(f) if torch.is_grad_enabled() else {}
    depends = dependencies(own, params, args) if torch.is_grad_enabled() else ()
    fractions = NODES if dense else ENDS if steps else ()
    if per_sample:
        if options.get("compile"):
            raise ValueError("per_sample=True has no compiled steps: leave compile=True out")
        if torch.is_grad_enabled():
            refuse_gradient(gradient, chosen)
        choices = dict(method=method, control=control, params=depends, events=watched)
        choices |= dict(backward=chosen.control, seminorm=chosen.norm == "seminorm")
        samples = sample_problem(f, y0, layout, times, args, compact=compact, fractions=fractions, **choices)
        return solve_samples(samples, gradient, times, steps, throw)
    problem = Problem(
        field=VectorField(f, layout, args, Autocast(flat.device.type)),
        y0=flat,
        ts=host,
        method=method,
        control=control,
        stats=Statistics(),
        params=depends,
        own=own,
        events=watched,
        fractions=fractions,
    )
    return solution(problem, gradient, chosen, times, steps, throw)


def laid_out(y0: Any, method: Method, per_sample: bool) -> tuple[Layout, Tensor]:
    """The layout of a state, or of one sample, and y0 [N]; TypeError for what is no state."""
    whole = Layout.of(y0)
    layout, flat = sample_layout(y0) if per_sample else whole, whole.flatten(y0)
    checked_state(flat)
    if flat.is_complex() and method.info.implicit:  # Newton's matrix is that of real equations
        return layout.as_pairs(), whole.as_pairs().flatten(y0)
    return layout, flat


def solution(
    problem: Problem,
    gradient: str,
    backward: GradientOptions,
    times: Tensor,
    steps: bool = False,
    throw: bool = True,
    strict: bool = True,
) -> Solution:
    """The problem solved by the gradient's choices ``backward``; with ``strict`` f may use its params alone."""
    try:
        with problem.field.autocast.outside():
            rows = differentiable(problem, gradient, backward, times, strict)
            return assembled(problem, rows, times, steps)
    except SolveError as error:
        rows = (
            error.ys if error.ys is not None else OutputRecorder(problem.ts, (), problem.y0, problem.outputs).stacked()
        )
        error.solution = assembled(problem, rows.detach(), times.detach(), steps, error.status)
        if throw:
            raise
        return error.solution


def differentiable(problem: Problem, gradient: str, backward: GradientOptions, times: Tensor, strict: bool) -> Tensor:
    """ys [rows, N] with the chosen gradient method behind them."""
    if not torch.is_grad_enabled() or under_transform():
        return integrate(problem)
    if times.requires_grad:  # moving t_0 forward moves y_0 by -f
        (y0,) = AtTimes.apply(lambda t, y: -rate(problem, t, y), problem.y0.unsqueeze(0), times[:1])
        problem = replace(problem, y0=y0)
    if gradient != "backprop" and not (problem.method.compiles and examined_before(problem)):
        examine(problem.field, problem.ts[0], problem.y0, problem.params, strict)
    return SOLVES[gradient](backward, problem)


def examined_before(problem: Problem) -> bool:
    """Whether the graphs that the solve is made of are those of an f that was looked at; they keep f at its end."""
    from noderun.ode.solvers.compiled.runge_kutta import needs_examination

    problem.field.kept = True
    assert isinstance(problem.method, ExplicitRungeKutta)
    return not needs_examination(problem.method, problem.field, problem.y0)


def rate(problem: Problem, t: Tensor, y: Tensor) -> Tensor:
    """dy/dt [N] on the way back, at t [] of any dtype."""
    with again(problem) as field:
        at = t.to(y.dtype.to_real())
        beyond = at.detach().clamp(field.bounds.low, field.bounds.high) - at.detach()  # by rounding
        return field(at + beyond, y)


def assembled(problem: Problem, rows: Tensor, times: Tensor, steps: bool, status: str = "done") -> Solution:
    """What the caller asked for out of the rows of a solve."""
    readout, layout, ys = problem.outputs, problem.field.layout, rows
    rows = problem.flat(rows)
    wanted = readout.every_step() if steps else readout.asked
    moving = times.requires_grad and torch.is_grad_enabled()
    if moving or len(wanted) < len(rows) or ys.shape[1:] != layout.shapes[0]:
        chosen = rows if len(wanted) == len(rows) else rows[wanted]
        chosen = AtTimes.apply(functools.partial(rate, problem), chosen, times) if moving else chosen
        ys = layout.unflatten(chosen)
    return Solution(
        ts=times if not steps else torch.tensor([readout.times[row] for row in wanted], dtype=times.dtype),
        ys=ys,
        stats=problem.stats,
        status="event" if readout.stopped else status,
        events=occurrences(problem, rows, times),
        dense=DenseOutput(readout.steps, rows) if problem.fractions and readout.steps else None,
        layout=layout,
    )


def occurrences(problem: Problem, rows: Tensor, times: Tensor) -> tuple[Occurrences, ...]:
    """When and where each event happened, with gradients."""
    field, found = problem.field, []
    before = field.nfe
    for which, event in enumerate(problem.events):
        at = [row for i, row in problem.outputs.events if i == which]
        pairs = [differentiable_event(event, field, problem.outputs.times[row], rows[row], times.dtype) for row in at]
        ts = torch.stack([t for t, _ in pairs]) if pairs else times.new_empty(0)
        ys = torch.stack([y for _, y in pairs]) if pairs else rows[:0]
        found.append(Occurrences(ts, field.layout.unflatten(ys)))
    problem.stats.nfe_forward += field.nfe - before
    return tuple(found)
