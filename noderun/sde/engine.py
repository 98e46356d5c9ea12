"""sdesolve(): one stochastic initial value problem through one method and one gradient method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.arguments import checked_controller, checked_norm, flattened, named, warn_of_coarse_times
from noderun.ode.engine import make_solution, solve_problem
from noderun.ode.gradients import Gradient
from noderun.ode.gradients.parameters import named_params, params_to_differentiate
from noderun.ode.solvers import Solution, SolveError, Statistics, StepController, StepOptions
from noderun.ode.solvers.control import Norm
from noderun.ode.solvers.errors import NonFiniteDynamics
from noderun.ode.solvers.field import Autocast
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.nesting import map_tensors, tensors_in
from noderun.ode.solvers.outputs import ENDS
from noderun.sde.arguments import (
    checked_method,
    checked_path,
    checked_state,
    checked_steps,
    checked_times,
    make_gradient,
)
from noderun.sde.brownian import BrownianPath
from noderun.sde.field import Equation, Path, SDEField
from noderun.sde.noise_types import TYPES, Noise


@dataclass
class SDESolution(Solution):
    """A ``Solution`` with its path: ``brownian(s, t)`` is W(t) - W(s)."""

    brownian: Path | None = None


def sdesolve(
    f: Callable[..., Any],
    g: Callable[..., Any],
    y0: Any,
    ts: Tensor | Sequence[float],
    *,
    solver: str = "euler",
    dt: float | Sequence[float] | None = None,
    noise: str = "diagonal",
    interpretation: str = "ito",
    seed: int = 0,
    index: Tensor | None = None,
    brownian: Path | None = None,
    gradient: str | Gradient = "checkpointed",
    gradient_options: Mapping[str, Any] | None = None,
    args: tuple[Any, ...] = (),
    params: Iterable[Tensor] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    controller: str | StepController = "I",
    norm: str | Norm = "rms",
    first_step: float | None = None,
    min_step: float = 0.0,
    max_step: float = math.inf,
    max_steps: int = 100_000,
    steps: bool = False,
    throw: bool = True,
) -> SDESolution:
    """Integrate dy = f(t, y, *args) dt + g(t, y, *args) dW from y0 at ts[0] and return y at every time of ts.

    >>> y0 = torch.ones(1000, 1)
    >>> sol = sdesolve(lambda t, y: -y, lambda t, y: 0.5 * torch.ones_like(y), y0, [0.0, 1.0], dt=0.01)
    >>> f"{sol.ys[-1].mean().item():.2f} after {sol.stats.accepted} steps"
    '0.36 after 100 steps'

    The equation:

    - ``f``, ``g``: the drift and the diffusion, called as ``f(t, y, *args)``; t is a scalar tensor. Modules, methods of
      Modules or partials of either: the parameters of both are found and receive gradients.
    - ``y0``: the state at ts[0], a tensor [B, ...] with the samples first, or a tuple or dict of them, in float32 or
      float64.
    - ``noise``: the type. "diagonal": one Brownian motion per component, g of y's shape, and each component of g
      depends on its own component of y. "scalar": one per sample, g of y's shape. "general": M per sample, g
      [B, ..., M]. "additive": g does not depend on y, and has the shape of diagonal or of general noise.
    - ``interpretation``: "ito" or "stratonovich": the calculus that f is the drift of. It has to be the method's.
      With additive noise both are the same.
    - ``ts``: the output times [T], increasing, or decreasing for Stratonovich equations. Every one ends a step.

    The method and its steps:

    - ``solver``: a name from ``noderun.sde.SOLVERS``. Ito: "euler" (strong order 0.5), "milstein" (1.0; not for
      general noise). Stratonovich: "heun", "midpoint", "reversible_heun" and "milstein" (1.0; 0.5 for general noise).
      With additive noise all have order 1.0. None of them needs Levy areas.
    - ``dt``: the largest step; the time between two outputs is divided evenly. Or the times at which steps end, rising,
      with every output among them.
    - ``rtol``, ``atol``: in place of ``dt``, adaptive steps: each is made as one and as two halves on the same path,
      and accepted if the ``norm`` of the difference is at most 1 in units of atol + rtol |y|; one that is not given
      is 0.
      ``controller``, ``first_step``, ``min_step``, ``max_step`` are those of ``solve``.
    - ``max_steps``: the number of attempted steps after which the solve fails.

    The path:

    - ``seed``: of the Brownian path, which is the same in any order of queries, forwards and backwards in time. Each
      sample has a path of its own, a function of the seed and its place in the batch (and of ts and dt). The same
      seed is the same path: give another one for every batch. ``index``, int64 [B], names the samples in place of
      their places in the batch.
    - ``brownian``: in place of the seed a ``BrownianPath``, which keeps the path while dt changes and can name the
      samples, or any function (s, t) -> W(t) - W(s): [B, ...] of y's shape for diagonal noise, [B] for scalar, [B, M]
      for general noise.

    The gradient and all else is as in ``solve``: ``gradient`` is "backprop", "checkpointed", "adjoint" (Li et al. 2020)
    or "reversible" (with solver="reversible_heun": memory independent of the number of steps, exact to round-off).

    Returns an ``SDESolution``: ``ys`` [T, *y0.shape] in y0's nesting, ``ts``, ``stats``, ``status`` and the path as
    ``brownian(s, t)``. Raises a ``SolveError`` with the partial ``solution``, and ValueError or TypeError for arguments
    that cannot work, before the solve starts.
    """
    named("noise", noise, TYPES)
    times, host = checked_times(ts)
    method = checked_method(solver, noise, interpretation, adaptive=dt is None, backwards=host[-1] < host[0])
    chosen = make_gradient(gradient, gradient_options or {}, method)
    layout, flat = checked_state(y0)
    grid = checked_steps(dt, rtol, atol, host)
    warn_of_coarse_times(host, flat.dtype)
    control = StepOptions(
        rtol=flattened(rtol or 0.0, layout, flat),
        atol=flattened(atol or 0.0, layout, flat),
        grid=grid if dt is not None else None,
        max_steps=max_steps,
        first_step=first_step,
        norm=checked_norm(norm, layout),
        controller=checked_controller(controller),
        min_step=min_step,
        max_step=max_step,
    )
    at_start = diffusion_at_start(g, y0, times[0].to(flat), args, noise)
    kind = Noise.of(noise, layout, at_start)
    path = checked_path(brownian, kind, flat, host) or BrownianPath(
        grid, kind.shape, seed=seed, index=index, dtype=flat.dtype, device=flat.device
    )
    equation = Equation(f, g)
    recording = torch.is_grad_enabled()
    known = named_params(equation) if recording else {}
    problem = Problem(
        field=SDEField(equation, layout, args, Autocast(flat.device.type), kind, interpretation, path),
        y0=flat,
        ts=host,
        method=method,
        control=control,
        stats=Statistics(),
        params=params_to_differentiate(known, params, args) if recording else (),
        named_params=known,
        fractions=ENDS if steps else (),
        stops=tuple(dict.fromkeys(host[1:-1])),
    )
    try:
        if not all(torch.isfinite(x).all() for x in tensors_in(at_start)):
            raise failed_at_start(problem, times, steps)
        return with_path(solve_problem(problem, chosen, times, steps, throw), path)
    except SolveError as error:
        if isinstance(error.solution, Solution):
            error.solution = with_path(error.solution, path)
        if throw:
            raise
        assert isinstance(error.solution, SDESolution)
        return error.solution


def with_path(solution: Solution, path: Path) -> SDESolution:
    return SDESolution(**vars(solution), brownian=path)


def diffusion_at_start(g: Callable[..., Any], y0: Any, t: Tensor, args: tuple[Any, ...], noise: str) -> Any:
    """g(t, y0), whose shape tells M; ValueError if additive noise depends on y."""
    with torch.no_grad():
        value = g(t, y0, *args)
        if noise == "additive":
            moved = g(t, map_tensors(lambda x: x + 1, y0), *args)
            pairs = zip(tensors_in(value), tensors_in(moved), strict=True)
            if not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs):
                raise ValueError(
                    "noise='additive' says that g does not depend on y, but it does: use noise='diagonal' or 'general'"
                )
    return value


def failed_at_start(problem: Problem, times: Tensor, steps: bool) -> SolveError:
    """The error of a diffusion that is not finite at ts[0]."""
    t = problem.ts[0]
    error = NonFiniteDynamics(f"the diffusion g returned NaN or infinity at t = {t:g}, in y0", t, 0)
    rows = torch.full_like(problem.y0, torch.nan).expand(len(problem.ts), -1).clone()
    rows[0] = problem.y0.detach()
    problem.outputs.times.extend(problem.ts)
    problem.outputs.asked.extend(range(len(problem.ts)))
    error.solution = make_solution(problem, rows, times.detach(), steps, error.status)
    return error
