"""solve(): one initial value problem through one solver and one gradient method."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from noderun.gradients import SOLVES, refusal
from noderun.solvers import CONTROLLERS, METHODS, Control, Solution, SolveError, Statistics
from noderun.solvers.control import Norm, rms
from noderun.solvers.field import Autocast, VectorField
from noderun.solvers.integrate import Problem, integrate
from noderun.solvers.method import Method
from noderun.solvers.stages import under_transform
from noderun.solvers.state import Layout


def solve(
    f: Callable[..., Any],
    y0: Any,
    ts: Tensor | Sequence[float],
    *,
    solver: str = "dopri5",
    solver_options: Mapping[str, Any] | None = None,
    rtol: float | Tensor = 1e-5,
    atol: float | Tensor = 1e-7,
    dt: float | None = None,
    gradient: str = "checkpointed",
    gradient_rtol: float | None = None,
    gradient_atol: float | None = None,
    args: tuple[Any, ...] = (),
    params: Iterable[Tensor] | None = None,
    controller: str = "I",
    norm: Norm = rms,
    first_step: float | None = None,
    max_steps: int = 100_000,
    throw: bool = True,
) -> Solution:
    """Integrate dy/dt = f(t, y, *args) from y0 at ts[0] and return y at every time of ts.

    ``y0`` is a tensor, or a tuple or dict of tensors, real or complex; ``ts`` [T] is strictly monotone, either way, and
    may require gradients. ``solver_options`` are the solver's own (``order`` of the multistep methods, ``method`` of
    richardson and scipy). ``dt`` None steps adaptively within atol + rtol |y|, a number steps by it. Gradients reach
    y0, ts, tensors in ``args`` and f's parameters, which are found where f is a Module or a method of one; a closure
    declares its own with ``params``. ``gradient_rtol`` and ``gradient_atol`` (default: the solve's) hold where the
    gradient is itself a solve.

    Raises SolveError subclasses with the partial ``solution``; with ``throw=False`` returns that one, NaN where the
    solve did not arrive. ValueError and TypeError for arguments that cannot work.

    >>> sol = solve(lambda t, y: -y, torch.tensor([1.0]), [0.0, 1.0], rtol=1e-6)
    >>> f"{sol.ys[-1].item():.4f} after {sol.stats.nfe_forward} evaluations"
    '0.3679 after 38 evaluations'
    """
    method = checked_method(solver, solver_options or {}, gradient, dt)
    layout = Layout.of(y0)
    flat = layout.flatten(y0)
    if not (flat.is_floating_point() or flat.is_complex()):
        raise TypeError(f"y0 is {flat.dtype}; a state is floating point or complex: y0.float() makes it so")
    times = ts if isinstance(ts, Tensor) else torch.as_tensor(ts, dtype=torch.float64)
    field = VectorField(f, layout, args, Autocast(flat.device.type))
    control = Control(
        rtol=flattened(rtol, layout),
        atol=flattened(atol, layout),
        dt=dt,
        max_steps=max_steps,
        first_step=first_step,
        norm=norm,
        controller=CONTROLLERS[named("controller", controller, CONTROLLERS)],
    )
    problem = Problem(field, flat, checked_times(times), method, control, Statistics(), parameters(f, params, args))
    backward = replace(
        control,
        rtol=control.rtol if gradient_rtol is None else gradient_rtol,
        atol=control.atol if gradient_atol is None else gradient_atol,
        first_step=None,
    )
    try:
        with field.autocast.outside():
            ys = differentiable(problem, gradient, backward, times, params is not None)
        return Solution(times, layout.unflatten(ys), problem.stats)
    except SolveError as error:
        ys = error.ys if error.ys is not None else flat.new_full((len(times), flat.numel()), torch.nan)
        error.solution = Solution(times, layout.unflatten(ys.detach()), problem.stats, error.status)
        if throw:
            raise
        return error.solution


def differentiable(problem: Problem, gradient: str, backward: Control, times: Tensor, declared: bool) -> Tensor:
    """ys [len(ts), N] with the chosen gradient method behind them, and the times as inputs of their own."""
    if gradient == "backprop" and torch.is_grad_enabled():
        solved: Callable[[Problem], Tensor] = integrate
    elif not torch.is_grad_enabled() or under_transform():
        return integrate(problem)
    else:
        problem.field.closed = not declared and not isinstance(owner(problem.field.f), nn.Module)
        solved = functools.partial(SOLVES[gradient], backward)
    if not times.requires_grad:
        return solved(problem)
    # To first order, moving a time t_i moves y(t_i) by f, and moving t_0 is moving y_0 by -f: this holds for every
    # gradient method alike, and no step size decision takes part in it.
    shift = (times - times.detach()).to(problem.y0.dtype).to(problem.y0.device).unsqueeze(1)
    with torch.no_grad():
        slope = evaluate(problem, 0, problem.y0)
    ys = solved(replace(problem, y0=problem.y0 - slope * shift[0]))
    with torch.no_grad():
        slopes = torch.stack([torch.zeros_like(slope), *(evaluate(problem, i, ys[i]) for i in range(1, len(times)))])
    problem.stats.nfe_forward += len(times)
    return ys + slopes * shift


def evaluate(problem: Problem, i: int, y: Tensor) -> Tensor:
    t = torch.full((), problem.ts[i], dtype=y.dtype.to_real(), device=y.device)
    return problem.field(t, y.detach())


def checked_method(solver: str, options: Mapping[str, Any], gradient: str, dt: float | None) -> Method:
    """The solver's method; ValueError where the words do not go together."""
    method = METHODS[named("solver", solver, METHODS)].configured(**options)
    reason = refusal(solver, method.info, named("gradient", gradient, SOLVES))
    if reason:
        raise ValueError(reason)
    if dt is None and not method.info.adaptive:
        raise ValueError(f"solver '{solver}' has no error estimate: give a fixed step, for instance dt=0.1")
    if dt is not None and not method.info.fixed_step:
        raise ValueError(f"solver '{solver}' chooses its own steps: leave dt=None and give rtol and atol")
    if dt is not None and not dt > 0:
        raise ValueError(f"dt is {dt}; a step size is positive, also backwards in time")
    return method


def checked_times(times: Tensor) -> list[float]:
    """The times as host floats: the one transfer of a solve that is not a step's."""
    if times.dim() != 1 or len(times) == 0:
        raise ValueError(f"ts has shape {list(times.shape)}; it is one dimension of times, for instance [0.0, 1.0]")
    host = times.detach().to(torch.float64).tolist()
    rising = [b - a for a, b in zip(host, host[1:], strict=False)]
    if not (all(d >= 0 for d in rising) or all(d <= 0 for d in rising)):
        raise ValueError("ts goes forth and back; times are monotone, either way")
    return host


def named(kind: str, word: str, known: Iterable[str]) -> str:
    """``word`` if known; ValueError with the nearest right one if not."""
    options = list(known)
    if word in options:
        return word
    near = difflib.get_close_matches(word, options, n=1)
    raise ValueError(f"no {kind} '{word}'; " + (f"did you mean '{near[0]}'?" if near else f"there are {options}"))


def flattened(tolerance: Any, layout: Layout) -> Any:
    """A number, or a tolerance per component in the state's own nesting as [N]."""
    if isinstance(tolerance, (float, int)):
        if not tolerance >= 0:
            raise ValueError(f"a tolerance is {tolerance}; it is a number of at least 0")
        return float(tolerance)
    if isinstance(tolerance, Tensor) and tolerance.dim() == 0:
        return tolerance.item()
    return layout.flatten(tolerance)


def parameters(f: Callable[..., Any], params: Iterable[Tensor] | None, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """What f depends on and requires gradients: declared or its Module's parameters, and the tensors in args."""
    module = owner(f)
    if params is None:
        params = module.parameters() if isinstance(module, nn.Module) else ()
    tensors = [x for x in (*params, *tree_leaves(args)) if isinstance(x, Tensor) and x.requires_grad]
    return tuple({id(x): x for x in tensors}.values())


def owner(f: Callable[..., Any]) -> Any:
    """The object behind a callable: a Module, the Module of a bound method, what a partial wraps."""
    while isinstance(f, functools.partial):
        f = f.func
    return getattr(f, "__self__", f)
