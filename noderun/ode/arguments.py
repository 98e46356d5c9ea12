"""The arguments of solve(), checked and turned into the objects that solvers and gradient methods work with."""

from __future__ import annotations

import difflib
import functools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from noderun.ode.gradients import GRADIENTS, Gradient
from noderun.ode.solvers import CONTROLLERS, METHODS, Event, StepController, StepOptions, configure_method
from noderun.ode.solvers.control import Norm, max_norm, max_rms_norm, max_state_norm, rms
from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.nesting import map_tensors
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.tableau import ButcherTableau

Tolerance = float | Tensor | Sequence[Tensor] | Mapping[str, Tensor]  # per component in the state's nesting
FixedStep = float | Sequence[float] | Tensor  # a step size, or the times at which steps end


class SolveOptions(TypedDict, total=False):
    """The keywords of solve() but per_sample, on which the type of its result depends; a test compares the two."""

    solver: str | Method | ButcherTableau
    solver_options: Mapping[str, Any] | None
    compile: bool | None
    rtol: Tolerance
    atol: Tolerance
    dt: FixedStep | None
    gradient: str | Gradient
    gradient_rtol: float | None
    gradient_atol: float | None
    gradient_options: Mapping[str, Any] | None
    args: tuple[Any, ...]
    params: Iterable[Tensor] | None
    controller: str | StepController
    norm: str | Norm
    first_step: float | None
    min_step: float
    max_step: float
    max_steps: int
    jump_ts: Sequence[float]
    events: Event | Sequence[Event]
    steps: bool
    dense: bool
    compact: bool
    throw: bool


def make_method(solver: str | Method | ButcherTableau, options: Mapping[str, Any]) -> Method:
    """The solver as a Method with its own options; ValueError for a name or an option that does not exist."""
    if isinstance(solver, ButcherTableau):
        solver = method_of(solver)
    method = solver if isinstance(solver, Method) else METHODS[named("solver", solver, METHODS)]
    return configure_method(method, **options)


def on_device(method: Method, device: torch.device) -> Method:
    """The method as a device runs it if nothing else is asked for: on a GPU as CUDA graphs, if it can be."""
    if device.type != "cuda" or not isinstance(method, ExplicitRungeKutta):
        return method
    from noderun.ode.solvers.captured.runge_kutta import captured

    eager = method.uncompiled
    return captured(eager, method.compiles) if type(eager).step is ExplicitRungeKutta.step else method


@functools.cache  # so that the graphs of compiled steps, which belong to a tableau, are found again
def method_of(tableau: ButcherTableau) -> Method:
    """The Runge-Kutta method of a tableau: explicit, or diagonally implicit with one number on the diagonal."""
    facts = ("tableau", tableau, "the caller's tableau", "a Runge-Kutta method made from a tableau")
    diagonal = {row[i] for i, row in enumerate(tableau.a) if len(row) > i}
    if not diagonal:
        return ExplicitRungeKutta(*facts)
    if len(diagonal) > 1 or any(len(row) > i + 1 for i, row in enumerate(tableau.a)):
        raise ValueError(
            "solver= takes explicit tableaus, row i of a with at most i numbers, and diagonally implicit ones, whose "
            "rows have i + 1 numbers and all end with the same one"
        )
    return DiagonallyImplicit(*facts)


def make_gradient(gradient: str | Gradient, options: Mapping[str, Any]) -> Gradient:
    """The gradient method with its own options; ValueError for a name or an option that does not exist."""
    chosen = gradient if isinstance(gradient, Gradient) else GRADIENTS[named("gradient", gradient, GRADIENTS)]()
    return chosen.with_options(**options) if options else chosen


def check_pair(method: Method, gradient: Gradient, dt: FixedStep | None, per_sample: bool = False) -> None:
    """ValueError if the method cannot take such steps, or if the gradient is needed and cannot be taken through it."""
    reason = gradient.refusal(method) or (gradient.refusal_per_sample() if per_sample else None)
    if reason and torch.is_grad_enabled():
        raise ValueError(reason)
    if per_sample and method.compiles:
        raise ValueError("per_sample=True has no compiled steps: leave compile=True out")
    if dt is None and not method.info.adaptive:
        raise ValueError(f"solver '{method.name}' has no error estimate: give a fixed step, for instance dt=0.1")
    if dt is not None and not method.info.fixed_step:
        raise ValueError(f"solver '{method.name}' chooses its own steps: leave dt=None and give rtol and atol")
    if isinstance(dt, (float, int)) and not dt > 0:
        raise ValueError(f"dt is {dt}; a step size is positive, also backwards in time")


def checked_state(flat: Tensor) -> None:
    """TypeError for a state of integers or truth values."""
    if not (flat.is_floating_point() or flat.is_complex()):
        raise TypeError(f"y0 is {flat.dtype}; a state is floating point or complex: y0.float() makes it so")


def checked_times(times: Tensor, open_ended: bool = False) -> list[float]:
    """The times as numbers on the host: the one transfer of a solve beside those of its steps.

    The last one may be infinite if the solve is ``open_ended``, that is, if an event ends it.
    """
    if times.dim() != 1 or len(times) == 0:
        raise ValueError(f"ts has shape {list(times.shape)}; it is one dimension of times, for instance [0.0, 1.0]")
    host: list[float] = times.detach().to(torch.float64).tolist()
    finite = host[: max(1, len(host) - open_ended)]
    if not all(map(math.isfinite, finite)) or math.isnan(host[-1]):
        raise ValueError(f"ts holds NaN or infinity; {FINITE}")
    rising = [b - a for a, b in zip(host, host[1:], strict=False)]
    if not (all(d >= 0 for d in rising) or all(d <= 0 for d in rising)):
        raise ValueError("ts is not monotone; times are increasing or decreasing, and may repeat")
    return host


FINITE = "times are finite, but for the last one if a terminal event ends the solve"


def checked_grid(dt: FixedStep | None, ts: Sequence[float]) -> tuple[float | None, tuple[float, ...] | None]:
    """(step size, None), (None, increasing grid), or (None, None) for adaptive steps."""
    if dt is None or isinstance(dt, (float, int)):
        return dt, None
    grid = torch.as_tensor(dt, dtype=torch.float64).detach().tolist()
    if grid != sorted(set(grid)) and grid[::-1] != sorted(set(grid)):
        raise ValueError("a grid of steps given as dt is strictly monotone")
    if len(grid) < 2 or {grid[0], grid[-1]} != {ts[0], ts[-1]}:
        raise ValueError(f"a grid of steps given as dt goes from the first to the last of ts, {ts[0]:g} to {ts[-1]:g}")
    return None, tuple(sorted(grid))


def checked_norm(norm: str | Norm, layout: Layout) -> Norm:
    """rms, max, items (the largest rms among the tensors of a nested state) or the caller's norm of a vector [N]."""
    if not isinstance(norm, str):
        return max_state_norm(norm, sum(layout.sizes))
    items = max_state_norm(max_rms_norm(layout.sizes), sum(layout.sizes))
    norms = {"rms": rms, "max": max_norm, "items": items}
    return norms[named("norm", norm, norms)]


def checked_controller(controller: str | StepController) -> StepController:
    """The controller of that name, or the caller's own."""
    if isinstance(controller, StepController):
        return controller
    return CONTROLLERS[named("controller", controller, CONTROLLERS)]


def named(kind: str, word: str, known: Iterable[str]) -> str:
    """``word`` if it is known; ValueError with the nearest known one if not, TypeError if it is not a word."""
    options = list(known)
    if not isinstance(word, str):
        raise TypeError(f"{kind} is {word!r}; it is a name, or an object that solve() takes in its place")
    if word in options:
        return word
    near = sorted(difflib.get_close_matches(word, options))  # of equally near ones the first is meant
    best = max(near, key=lambda option: difflib.SequenceMatcher(None, option, word).ratio(), default=None)
    meant = f"did you mean '{best}'?" if best else f"there are: {', '.join(sorted(options))}"
    raise ValueError(f"no {kind} '{word}'; {meant}")


def flattened(tolerance: Any, layout: Layout, like: Tensor) -> Any:
    """A tolerance as a number or, if given per component, as [N] with the device and dtype of the state ``like``."""
    if isinstance(tolerance, (float, int)) or (isinstance(tolerance, Tensor) and tolerance.dim() == 0):
        if not tolerance >= 0:
            raise ValueError(f"a tolerance is {tolerance}; it is a number of at least 0")
        return float(tolerance)
    tolerance = map_tensors(lambda x: x.to(like.device, like.dtype.to_real()), tolerance)
    if layout.pairs:  # the same for both parts of a complex number
        tolerance = map_tensors(lambda x: torch.complex(x, x), tolerance)
    return layout.flatten(tolerance, "a tolerance has")


def checked_precision(like: Tensor, method: Method, control: StepOptions) -> None:
    """ValueError for a half precision state if this solver or this tolerance cannot be used with it."""
    if like.is_cuda and like.dtype == torch.float32 and not control.fixed and isinstance(control.rtol, float):
        if control.rtol < 1e-3 and rounds_to_tf32():
            warn_of_tf32()
    if torch.finfo(like.dtype).bits > 16:
        return
    kind, eps = str(like.dtype).removeprefix("torch."), torch.finfo(like.dtype).eps
    if method.info.implicit:
        raise ValueError(f"solver '{method.name}' solves linear systems, which torch does not in {kind}: {WIDER}")
    if not control.fixed and float(torch.as_tensor(control.rtol).min()) < eps:
        raise ValueError(f"rtol is below {eps:.1e}, the resolution of {kind}: loosen it, or {WIDER}")


@functools.cache  # once a process
def warn_of_tf32() -> None:
    warnings.warn(
        "torch lets this GPU round the products of float32 numbers to TF32, an error of 5e-4 in f that no tolerance "
        "below 1e-3 can undo: torch.backends.cudnn.conv.fp32_precision = 'ieee' and "
        "torch.backends.cuda.matmul.fp32_precision = 'ieee' turn it off",
        RuntimeWarning,
        stacklevel=4,
    )


def rounds_to_tf32() -> bool:
    parts: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    return "tf32" in (parts[0].fp32_precision, parts[1].conv.fp32_precision)


WIDER = "use a state in float32, y0.float(); under torch.autocast f still computes in half precision"


def warn_of_coarse_times(host: Sequence[float], dtype: torch.dtype) -> None:
    """Warn if the state's ``dtype``, in which f receives t, can hardly tell the output times apart.

    Times that are counted from about the start are as fine as can be: of many irregular ones, some are close by chance.
    """
    finite = [t for t in host if math.isfinite(t)]
    gap = min((abs(b - a) for a, b in zip(finite, finite[1:], strict=False) if a != b), default=math.inf)
    eps = torch.finfo(dtype).eps
    rounding, span = eps * max(map(abs, finite)), max(finite) - min(finite)
    if rounding > max(1e-3 * gap, 10 * eps * gap, 2 * eps * span):
        kind = str(dtype).removeprefix("torch.")
        warnings.warn(
            f"f receives t in the state's dtype, {kind}, which rounds times of this size by {rounding / 2:.1e} while "
            f"ts are {gap:.1e} apart: count t from the start of the solve, or use a state in float64",
            RuntimeWarning,
            stacklevel=3,
        )
