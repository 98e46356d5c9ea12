"""solve(): one initial value problem through one solver and one gradient method."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

import torch
from torch import Tensor

from noderun.ode.arguments import (
    FixedStep,
    SolveOptions,
    Tolerance,
    check_pair,
    checked_controller,
    checked_grid,
    checked_norm,
    checked_precision,
    checked_state,
    checked_times,
    flattened,
    make_gradient,
    make_method,
    on_device,
    warn_of_coarse_times,
)
from noderun.ode.gradients import Gradient
from noderun.ode.gradients.field_checks import examine_field
from noderun.ode.gradients.output_times import DifferentiableTimes
from noderun.ode.gradients.parameters import backward_field, named_params, params_to_differentiate
from noderun.ode.per_sample import BatchedSolution, sample_layout, sample_problem, solve_samples
from noderun.ode.resets import solve_between_resets
from noderun.ode.solvers import Event, Occurrences, Solution, SolveError, Statistics, StepController, StepOptions
from noderun.ode.solvers.control import Norm
from noderun.ode.solvers.dense import DenseOutput
from noderun.ode.solvers.events import differentiable_event
from noderun.ode.solvers.field import Autocast, VectorField
from noderun.ode.solvers.integrate import Problem, integrate
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.outputs import ENDS, NODES, OutputRecorder
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.tableau import ButcherTableau
from noderun.ode.solvers.torch_internals import under_transform


@overload
def solve(
    f: Callable[..., Any],
    y0: Any,
    ts: Tensor | Sequence[float],
    *,
    per_sample: Literal[False] = False,
    **options: Unpack[SolveOptions],
) -> Solution: ...


@overload
def solve(
    f: Callable[..., Any],
    y0: Any,
    ts: Tensor | Sequence[float],
    *,
    per_sample: Literal[True],
    **options: Unpack[SolveOptions],
) -> BatchedSolution: ...


@overload
def solve(
    f: Callable[..., Any],
    y0: Any,
    ts: Tensor | Sequence[float],
    *,
    per_sample: bool,
    **options: Unpack[SolveOptions],
) -> Solution | BatchedSolution: ...


def solve(
    f: Callable[..., Any],
    y0: Any,
    ts: Tensor | Sequence[float],
    *,
    solver: str | Method | ButcherTableau = "dopri5",
    solver_options: Mapping[str, Any] | None = None,
    compile: bool | None = None,
    rtol: Tolerance = 1e-5,
    atol: Tolerance = 1e-7,
    dt: FixedStep | None = None,
    gradient: str | Gradient = "checkpointed",
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
) -> Solution | BatchedSolution:
    """Integrate dy/dt = f(t, y, *args) from y0 at ts[0] and return y at every time of ts.

    >>> sol = solve(lambda t, y: -y, torch.tensor([1.0]), [0.0, 1.0], rtol=1e-6)
    >>> f"{sol.ys[-1].item():.4f} after {sol.stats.nfe_forward} evaluations"
    '0.3679 after 38 evaluations'

    Main arguments:

    - ``f``: the right-hand side, called as ``f(t, y, *args)``. t is a scalar tensor in the state's real dtype; y and
      the result have the nesting and shapes of y0. A Module, a method of a Module or a partial of either: f's
      parameters are then found and receive gradients. f must not change y in place, and it is called only at times
      between the first and the last of ts.
    - ``y0``: the state at ts[0]: a tensor of any shape, or a tuple or dict of tensors of one dtype, floating point or
      complex. It receives a gradient if it requires one. Implicit solvers treat a complex state as pairs of real
      numbers, also in the norm.
    - ``ts``: the output times [T], a tensor or a sequence of numbers, increasing or decreasing; times may repeat. A
      tensor receives a gradient if it requires one. More times do not change the steps and hardly cost anything: they
      are read off the continuous extension of the steps.
    - ``solver``: a name from ``SOLVERS``, a ``Method`` object, or a ``ButcherTableau``, from which a Runge-Kutta method
      is made (explicit, or diagonally implicit with one number on the diagonal). The default "dopri5" is explicit, of
      order 5, and costs six calls of f per step: the usual choice for problems that are not stiff. For stiff ones take
      "kvaerno5" or "radau5", which also need Jacobians and factorizations of an [N, N] matrix.
    - ``solver_options``: the solver's own options by name: ``order`` of the Adams methods with fixed steps, ``method``
      of "richardson" (any one-step method) and "scipy" (RK23, RK45, DOP853, Radau, BDF or LSODA).
    - ``args``: further arguments of f. Tensors in them, however nested, receive gradients.

    Adaptive steps, the default (``dt=None``):

    - ``rtol``, ``atol``: a step is accepted if the ``norm`` of its error estimate, in units of atol + rtol |y|, is at
      most 1. Numbers, or tensors in y0's nesting for one tolerance per component. The error of the whole solve is
      usually larger than that of a step.
    - ``norm``: the norm of the error: "rms" (root mean square), "max", "items" (the largest root mean square among the
      tensors of a nested state), or a function of a vector [N].
    - ``controller``: how the next step size follows from the error: "I" (the classical controller), "PI" or "PID"
      (smoother if stability limits the step size), or a ``StepController``.
    - ``first_step``: the size of the first attempt; None estimates it from f, at the cost of one call of f.
    - ``min_step``: a step of this size is accepted whatever its error.
    - ``max_step``: the largest step size; give it if f has features that large steps could miss.
    - ``jump_ts``: times at which f is discontinuous, also at the ends of ts. Steps end there, and f is evaluated on
      each side separately, so the solver does not have to find the jump by rejecting steps.

    Fixed steps and compiled steps:

    - ``dt``: a step size (positive, also backwards in time; the last step is shortened to end at ts[-1]), or the times
      at which steps end as a sequence from ts[0] to ts[-1]. Tolerances then have no effect.
    - ``max_steps``: the number of attempted steps, fixed or adaptive, after which the solve fails with ``StepLimit``.
    - ``compile``: None, the default, is eager on a CPU. On a GPU it replays the attempts of an explicit Runge-Kutta
      method as CUDA graphs, from the second solve with one f on (docs/performance.md, "On a GPU"); True also compiles
      f for them, and False is eager. On a CPU True compiles the steps of an explicit Runge-Kutta method, with f inside,
      into one graph, and many steps into one call unless events or callbacks need them one by one. The first solve per
      f and shape of the state takes seconds (half a minute for a convolutional f); later ones are faster than eager
      steps. If f or the machine is not suitable, a warning says so and steps stay eager. Numbers in ``args`` are
      constants of a graph: pass what changes as tensors.

    Gradient (nothing is recorded or checked under ``torch.no_grad``):

    - ``gradient``: a name from ``GRADIENTS`` or a ``Gradient`` object. The default "checkpointed" is the exact gradient
      of the discrete solve; it holds one state per step and costs one more call of f per stage. "backprop" is as exact
      and faster, holds all activations of f, and can be differentiated twice. "adjoint" holds the outputs only and is
      the gradient of the continuous problem to a tolerance. docs/gradients.md compares all of them. The forward solve
      is the same to the bit whatever the gradient.
    - ``gradient_options``: the gradient's own options if it is given by name: ``norm`` of "adjoint" and "interpolated",
      ``checkpoints`` of "checkpointed" and "symplectic".
    - ``gradient_rtol``, ``gradient_atol``: the tolerances of a gradient that is itself a solve ("adjoint",
      "interpolated"); None takes those of the forward solve. Other gradients do not use them.
    - ``params``: the tensors that receive gradients beside y0, ts and ``args``. None takes the parameters of f's
      Module; a closure must name all tensors that it depends on, or an error says so.

    Batches of independent samples:

    - ``per_sample``: True solves each sample of y0 [B, ...] with its own times (``ts`` [T] or [B, T], each row in
      either direction), steps, statistics and status; a sample takes the steps that it would take alone. The result is
      a ``BatchedSolution``. f receives t as [b, 1, ..., 1]. For Runge-Kutta methods (explicit, diagonally implicit,
      collocation) and Rosenbrock methods; for the gradients "backprop", "checkpointed" and "adjoint". A sample that
      fails is NaN from there on and does not stop the others.
    - ``compact``: with ``per_sample``, True calls f with the b <= B samples that are still under way only, and gathers
      for them those tensors of ``args`` whose leading dimension is B. False keeps all samples in every call, as do
      rounds that are CUDA graphs.

    Outputs and events:

    - ``steps``: True returns the accepted steps as well: ts and ys hold the start, the end of every step, the output
      times and the events; with ``per_sample`` ts [n, B] and ys [n, B, ...], padded with NaN.
    - ``dense``: True keeps the continuous extension, so that ``interpolate(t)`` of the result gives y at any time of
      the solve, at the memory of eight states per step.
    - ``events``: one ``Event`` or several. They are located on the continuous extension, which is looked at four times
      per step beside its ends. If one is terminal, it ends the solve, and the last of ts may be infinite; if it has a
      ``reset``, the solve goes on from there with another state. Their times and states have gradients, also in what
      an event's function and reset depend on.

    Failures:

    - ``throw``: False returns a solution that failed (its ``status`` says how) instead of raising; y is NaN at the
      times that were not reached.

    Returns a ``Solution``: ``ys`` [T, *y0.shape] in y0's nesting, ``ts``, ``stats`` (evaluations of f, steps),
    ``status`` and ``events``; with ``per_sample`` a ``BatchedSolution``.

    Raises a ``SolveError`` with the partial ``solution``: ``NonFiniteDynamics`` if f returns NaN or infinity,
    ``StepUnderflow`` if the tolerance cannot be met, ``StepLimit``, or ``NewtonDivergence`` of an implicit solver.
    ValueError or TypeError for arguments that cannot work, before the solve starts.

    Note: an eager adaptive solver decides on each step by one number that the host waits for. Where attempts are CUDA
    graphs, the decisions are made on the device, and the host waits about once a solve.
    """
    method = make_method(solver, {**(solver_options or {}), **({"compile": True} if compile else {})})
    chosen = make_gradient(gradient, gradient_options or {})
    check_pair(method, chosen, dt, per_sample)
    layout, flat = state_layout(y0, method, per_sample)
    if compile is not False:
        method = on_device(method, flat.device)
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
    choices: dict[str, Any] = dict(method=method, control=control, params=params, events=watched)
    choices |= dict(backward=control.backward(gradient_rtol, gradient_atol))
    choices |= dict(fractions=NODES if dense else ENDS if steps else ())
    if any(event.reset for event in watched):
        if steps or dense:
            raise ValueError("steps=True and dense=True end at a reset: name the times in ts instead")

        def piece(y: Any, times: Tensor, events: Sequence[Event]) -> Solution | BatchedSolution:
            if per_sample:
                samples = sample_problem(f, y, layout, times, args, compact=compact, **choices | dict(events=events))
                return solve_samples(samples, chosen, times, False, throw)
            start, host = state_layout(y, method, False)[1], checked_times(times, True)
            problem = make_problem(f, layout, start, host, args, **choices | dict(events=events))
            return solve_problem(problem, chosen, times, False, throw)

        field = (lambda t, y: f(t, y, *args)) if args else f
        return solve_between_resets(piece, field, y0, times, watched, max_steps, per_sample)
    if per_sample:
        samples = sample_problem(f, y0, layout, times, args, compact=compact, **choices)
        return solve_samples(samples, chosen, times, steps, throw)
    return solve_problem(make_problem(f, layout, flat, host, args, **choices), chosen, times, steps, throw)


def state_layout(y0: Any, method: Method, per_sample: bool) -> tuple[Layout, Tensor]:
    """The layout of the state, or of one sample of it, and y0 [N]; TypeError if y0 cannot be a state."""
    whole = Layout.of(y0)
    layout, flat = sample_layout(y0) if per_sample else whole, whole.flatten(y0)
    checked_state(flat)
    if flat.is_complex() and method.info.implicit:  # Newton's matrix is that of real equations
        return layout.as_pairs(), whole.as_pairs().flatten(y0)
    return layout, flat


def make_problem(
    f: Callable[..., Any],
    layout: Layout,
    y0: Tensor,
    ts: Sequence[float],
    args: tuple[Any, ...] = (),
    params: Iterable[Tensor] | None = None,
    **choices: Any,
) -> Problem:
    """The problem as gradient methods receive it; ``choices`` are its other fields.

    It remembers the parameters that f has now: around a ``functional_call`` the backward pass finds others in f.
    """
    named = named_params(f) if torch.is_grad_enabled() else {}
    return Problem(
        field=VectorField(f, layout, args, Autocast(y0.device.type)),
        y0=y0,
        ts=ts,
        stats=Statistics(),
        params=params_to_differentiate(named, params, args) if torch.is_grad_enabled() else (),
        named_params=named,
        **choices,
    )


def solve_problem(
    problem: Problem,
    gradient: Gradient,
    times: Tensor,
    steps: bool = False,
    throw: bool = True,
    strict: bool = True,
) -> Solution:
    """The solution with the gradient behind it; with ``strict`` f may depend on the problem's params alone."""
    differentiated = torch.is_grad_enabled() and not under_transform()
    try:
        with problem.field.autocast.outside():
            ready = prepared(problem, gradient, times, strict) if differentiated else problem
            rows = gradient.solve(ready) if differentiated else integrate(ready)
            return make_solution(problem, rows, times, steps)
    except SolveError as error:
        rows = (
            error.ys if error.ys is not None else OutputRecorder(problem.ts, (), problem.y0, problem.outputs).stacked()
        )
        error.solution = make_solution(problem, rows.detach(), times.detach(), steps, error.status)
        if throw:
            raise
        return error.solution


def prepared(problem: Problem, gradient: Gradient, times: Tensor, strict: bool) -> Problem:
    """The problem with y0 as a function of the first time, too; ValueError if f cannot be differentiated."""
    if times.requires_grad:  # if t_0 moves forward, y_0 moves by -f
        (y0,) = DifferentiableTimes.apply(
            lambda t, y: -time_derivative(problem, t, y), problem.y0.unsqueeze(0), times[:1]
        )
        problem = replace(problem, y0=y0)
    if not gradient.recorded_by_autograd:
        examine_field(problem, strict)
    return problem


def time_derivative(problem: Problem, t: Tensor, y: Tensor) -> Tensor:
    """dy/dt [N] in the backward pass, at t [] of any dtype."""
    with backward_field(problem) as field:
        at = t.to(y.dtype.to_real())
        beyond = at.detach().clamp(field.bounds.low, field.bounds.high) - at.detach()  # by rounding
        return field(at + beyond, y)


def make_solution(problem: Problem, rows: Tensor, times: Tensor, steps: bool, status: str = "done") -> Solution:
    """The rows of a solve in the caller's nesting, at the times that the caller asked for."""
    outputs, layout, ys = problem.outputs, problem.field.layout, rows
    rows = problem.flat(rows)
    wanted = outputs.every_step() if steps else outputs.asked
    with_times = times.requires_grad and torch.is_grad_enabled()
    every_row = wanted == list(range(len(rows)))
    if with_times or not every_row or ys.shape[1:] != layout.shapes[0]:
        chosen = rows if every_row else rows[wanted]
        if with_times:
            chosen = DifferentiableTimes.apply(functools.partial(time_derivative, problem), chosen, times)
        ys = layout.unflatten(chosen)
    return Solution(
        ts=times if not steps else torch.tensor([outputs.times[row] for row in wanted], dtype=times.dtype),
        ys=ys,
        stats=problem.stats,
        status="event" if outputs.stopped else status,
        events=occurrences(problem, rows, times),
        dense=DenseOutput(outputs.steps, rows) if problem.fractions and outputs.steps else None,
        layout=layout,
    )


def occurrences(problem: Problem, rows: Tensor, times: Tensor) -> tuple[Occurrences, ...]:
    """The times and states of each event, differentiable."""
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
