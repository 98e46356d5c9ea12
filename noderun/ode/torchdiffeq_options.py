"""torchdiffeq's arguments translated into the engine's: names, options, norms, grids, callbacks, events."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.arguments import (
    checked_precision,
    checked_state,
    checked_times,
    named,
    on_device,
    warn_of_coarse_times,
)
from noderun.ode.engine import make_problem, solve_problem
from noderun.ode.gradients import Gradient
from noderun.ode.solvers import METHODS, Event, StepController, StepOptions
from noderun.ode.solvers.control import Callback, Norm, max_rms_norm, max_state_norm, rms
from noderun.ode.solvers.events import as_number
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.state import Layout

ADAPTIVE = {name: name for name in ("dopri8", "dopri5", "tsit5", "bosh3", "fehlberg2", "adaptive_heun")}
FIXED = {
    **{name: name for name in ("euler", "midpoint", "heun2", "heun3")},
    "rk4": "rk4_38",
    **{"explicit_adams": "adams_bashforth", "implicit_adams": "adams_moulton", "fixed_adams": "adams_moulton"},
    **{name: name for name in ("implicit_euler", "implicit_midpoint", "trapezoid", "sdirk2", "trbdf2")},
    **{"gl4": "gauss4", "gl6": "gauss6", "radauIIA3": "radau3", "radauIIA5": "radau5"},
}
NAMES = {**ADAPTIVE, **FIXED, "scipy_solver": "scipy"}  # torchdiffeq's name -> ours

CONTROL_OPTIONS = {"norm", "min_step", "max_step", "first_step", "step_t", "jump_t", "safety", "ifactor", "dfactor"}
ADAPTIVE_OPTIONS = CONTROL_OPTIONS | {"max_num_steps", "dtype", "eps"}
FIXED_OPTIONS = {"norm", "step_size", "grid_constructor", "interp", "perturb", "max_order", "max_iters", "eps"}
SCIPY_OPTIONS = {"norm", "min_step", "max_step", "solver", "grid_points", "eps"}
CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
HIGHEST_ORDER = 5  # of Adams methods; torchdiffeq's rise to 12 as the history grows
EVENT_STEPS = 100_000  # the limit for a solve that an event ends, because it may never happen


@dataclass
class Call:
    """The arguments of one call, or of its backward pass, and their translation."""

    func: Callable[..., Any]
    y0: Any
    t: Tensor
    rtol: Any
    atol: Any
    method: str
    options: dict[str, Any]
    event_fn: Callable[..., Tensor] | None
    adjoint: bool = False

    def __post_init__(self) -> None:
        named("method", self.method, NAMES)
        if NAMES[self.method] not in METHODS:
            raise ValueError(f"noderun has no counterpart of torchdiffeq's '{self.method}' yet")
        if not isinstance(self.t, Tensor) or not self.t.is_floating_point():
            raise TypeError("t is a floating point tensor of times, for instance torch.linspace(0.0, 1.0, 10)")
        if self.event_fn is not None and len(self.t) != 2:
            raise ValueError(
                f"t has {len(self.t)} times; with event_fn it has two, the start and a time in the direction to go"
            )
        self.layout = Layout.of(self.y0)
        checked_state(self.layout.flatten(self.y0))
        host = checked_times(self.t)
        if len(set(host)) < len(host):
            raise ValueError("t has equal times; they are strictly increasing or decreasing")
        self.ts = [host[0], math.copysign(math.inf, host[1] - host[0])] if self.event_fn is not None else host
        self.warn()

    def warn(self) -> None:
        """Warn as torchdiffeq does: of options that the method does not have and callbacks that it never calls."""
        adaptive, scipy = self.method in ADAPTIVE, self.method == "scipy_solver"
        known = ADAPTIVE_OPTIONS if adaptive else SCIPY_OPTIONS if scipy else FIXED_OPTIONS
        if unknown := set(self.options) - known:
            warnings.warn(f"method '{self.method}' does not know the options {sorted(unknown)}", stacklevel=5)
        never = CALLBACKS if scipy else () if adaptive else CALLBACKS[1:]
        suffix = "_adjoint" if self.adjoint else ""
        if mute := [name for name in never if hasattr(self.func, name + suffix)]:
            warnings.warn(f"method '{self.method}' does not call {mute}", stacklevel=5)

    def solved(self, gradient: Gradient, params: tuple[Tensor, ...], backward: Call | None) -> Any:
        """What torchdiffeq returns: ys, or with an event its time and the states at t[0] and there."""
        flat = self.layout.flatten(self.y0)
        events = () if self.event_fn is None else (first_crossing(self.event_fn, self.t[0], self.y0),)
        if None in events:  # it happens at the start
            return self.t[0], self.layout.unflatten(torch.stack([flat, flat]))
        times = self.t if not events else torch.cat([self.t[:1], self.t.new_full((1,), self.ts[1])])
        func = Perturbed(self.func, self.ts[0], self.ts[-1]) if self.options.get("perturb") else self.func
        control = self.control(func, params)
        problem = make_problem(
            func,
            self.layout,
            flat,
            self.ts,
            params=params,
            method=on_device(self.solver(), flat.device),
            control=control,
            adjoint_method=backward.solver() if backward else None,
            backward=backward.control(func, params) if backward else control,
            events=[event for event in events if event is not None],
        )
        checked_precision(flat, problem.method, control)
        warn_of_coarse_times(self.ts, flat.dtype.to_real())
        sol = solve_problem(problem, gradient, times, strict=False)
        if not events:
            return sol.ys
        (found,) = sol.events
        reached = [torch.stack(pair) for pair in zip(self.layout.split(flat), last_row(found.ys), strict=True)]
        return found.ts[-1].to(self.t), self.layout.rebuild(reached)

    def solver(self) -> Method:
        chosen = {}
        if self.method == "scipy_solver":
            chosen = {"method": self.options.get("solver", "LSODA")}
        elif "adams" in self.method:
            chosen = {"order": min(HIGHEST_ORDER, int(self.options.get("max_order", HIGHEST_ORDER)))}
        return METHODS[NAMES[self.method]].with_options(**chosen)

    def control(self, func: Any, params: tuple[Tensor, ...]) -> StepOptions:
        given = self.options
        dt, grid = (None, None) if self.method not in FIXED else self.grid()
        suffix = "_adjoint" if self.adjoint else ""
        before, accepted, rejected = (self.callback(name + suffix, params) for name in CALLBACKS)
        if isinstance(func, Perturbed):
            before = both(func.entering, before)
        return StepOptions(
            rtol=self.tolerance(self.rtol),
            atol=self.tolerance(self.atol),
            dt=dt,
            grid=grid,
            max_steps=int(given.get("max_num_steps", 2**31 - 1 if self.event_fn is None else EVENT_STEPS)),
            first_step=None if given.get("first_step") is None else float(given["first_step"]),
            norm=self.norm(params),
            controller=StepController(
                safety=float(given.get("safety", 0.9)),
                max_factor=float(given.get("ifactor", 10.0)),
                min_factor=float(given.get("dfactor", 0.2)),
            ),
            min_step=float(given.get("min_step", 0.0)),
            max_step=float(given.get("max_step", math.inf)),
            jumps=self.jumps(),
            before=before,
            accepted=accepted,
            rejected=rejected,
        )

    def grid(self) -> tuple[float | None, tuple[float, ...] | None]:
        """(step size, None) or (None, the times at which steps end, increasing); by default those are t itself."""
        size, constructor = self.options.get("step_size"), self.options.get("grid_constructor")
        if size is not None and constructor is not None:
            raise ValueError("step_size and grid_constructor both say where steps end: give one of them")
        if size is not None:
            return float(size), None
        if self.event_fn is not None:
            raise ValueError(f"method '{self.method}' has fixed steps: with event_fn give options=dict(step_size=...)")
        if constructor is None:
            return None, tuple(sorted(self.ts))
        t = self.t.detach()
        legs = [t] if not self.adjoint else [t[i - 1 : i + 1].flip(0) for i in range(len(t) - 1, 0, -1)]
        grids = [constructor(self.func, self.y0, leg).tolist() for leg in legs]
        if any((grid[0], grid[-1]) != (leg[0].item(), leg[-1].item()) for grid, leg in zip(grids, legs, strict=True)):
            raise ValueError("grid_constructor returned a grid that does not go from the first to the last of its t")
        return None, tuple(sorted({x for grid in grids for x in grid}))

    def jumps(self) -> tuple[float, ...]:
        """step_t and jump_t; f is evaluated anew after each of them."""
        times = [x for key in ("step_t", "jump_t") for x in torch.as_tensor(self.options.get(key, ())).tolist()]
        if len(set(times)) < len(times):
            raise ValueError("step_t and jump_t have times in common; each is named once")
        return tuple(sorted(times))

    def tolerance(self, given: Any) -> Any:
        """A number, or one per component [N]; a tuple of tolerances has one per tensor of a tuple y0."""
        flat = self.layout.flatten(self.y0)
        if isinstance(given, (tuple, list)):
            if len(given) != len(self.layout.shapes):
                raise ValueError(
                    f"{len(given)} tolerances for a state of {len(self.layout.shapes)} tensors; give one each"
                )
            parts = [torch.as_tensor(x).expand(shape) for x, shape in zip(given, self.layout.shapes, strict=True)]
            return torch.cat([part.reshape(-1).to(flat.device, flat.dtype.to_real()) for part in parts])
        if isinstance(given, Tensor) and given.dim():
            return given.expand(self.layout.shapes[0]).reshape(-1).to(flat.device, flat.dtype.to_real())
        return float(given)

    def norm(self, params: tuple[Tensor, ...]) -> Norm:
        """rms, the largest rms among a tuple's tensors, or the caller's norm of the state in the caller's nesting."""
        given, size = self.options.get("norm"), sum(self.layout.sizes)
        if given is None or given == "seminorm":
            return max_state_norm(rms if self.layout.single else max_rms_norm(self.layout.sizes), size)
        if self.adjoint:
            return lambda v: torch.as_tensor(given(self.augmented(v, params)))
        return max_state_norm(lambda v: torch.as_tensor(given(self.layout.unflatten(v))), size)

    def augmented(self, v: Tensor, params: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """torchdiffeq's (adjoint of t, y, adjoint of y, adjoints of parameters); those not in our state are zero."""
        halves = [part for half in v.chunk(2) for part in self.layout.split(half)]
        return (v.new_zeros(()), *halves, *(torch.zeros_like(p) for p in params))

    def callback(self, name: str, params: tuple[Tensor, ...]) -> Callback | None:
        """The method of func by that name, called with (t, y, dt) as torchdiffeq does: dt is positive both ways."""
        called = getattr(self.func, name, None)
        if called is None:
            return None

        def callback(t: float, y: Tensor, h: float) -> None:
            state = self.augmented(y, params) if self.adjoint else self.layout.unflatten(y)
            called(torch.tensor(t, dtype=torch.float64), state, torch.tensor(abs(h), dtype=torch.float64))

        return callback


class Perturbed:
    """f for the option perturb: at the ends of a step or of the solve it sees the next time inside instead."""

    def __init__(self, f: Callable[..., Any], start: float, end: float) -> None:
        self.__wrapped__ = f  # as functools.wraps leaves it: here the parameters are found
        self.f, self.whole, self.step = f, (start, end), (start, end)

    def entering(self, t: float, y: Tensor, h: float) -> None:
        self.step = t, t + h

    def __call__(self, t: Tensor, y: Any) -> Any:
        for ends in (self.step, self.whole):
            start, end = (torch.full_like(t, x) for x in ends)
            t = torch.where(t == start, torch.nextafter(t, end), torch.where(t == end, torch.nextafter(t, start), t))
        return self.f(t, y)


def first_crossing(event_fn: Callable[..., Tensor], t0: Tensor, y0: Any) -> Event | None:
    """The event that any component of event_fn changes its sign from that at (t0, y0); None if one is zero there."""
    with torch.no_grad():
        signs = torch.sign(as_number(event_fn(t0, y0)))
    if (signs == 0).any():
        return None
    return Event(lambda t, y: (as_number(event_fn(t, y)) * signs).min(), direction=-1)


def last_row(ys: Any) -> list[Tensor]:
    return [ys[-1]] if isinstance(ys, Tensor) else [y[-1] for y in ys]


def both(first: Callback, second: Callback | None) -> Callback:
    def called(t: float, y: Tensor, h: float) -> None:
        first(t, y, h)
        if second is not None:
            second(t, y, h)

    return called
