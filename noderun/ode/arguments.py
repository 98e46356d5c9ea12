"""What a caller of solve() may say, checked and brought into the engine's own terms."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients import SOLVES, refusal
from noderun.ode.solvers import CONTROLLERS, METHODS, StepController, StepOptions, configure_method
from noderun.ode.solvers.control import Norm, max_norm, max_rms_norm, max_state_norm, rms
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.nesting import map_tensors
from noderun.ode.solvers.state import Layout

FixedStep = float | Sequence[float] | Tensor  # a step size, or a grid of times where steps end


def checked_method(solver: str, options: Mapping[str, Any], gradient: str, dt: FixedStep | None) -> Method:
    """The solver's method; ValueError where the words do not go together."""
    method = configure_method(METHODS[named("solver", solver, METHODS)], **options)
    reason = refusal(solver, method.info, named("gradient", gradient, SOLVES))
    if reason and torch.is_grad_enabled():
        raise ValueError(reason)
    if dt is None and not method.info.adaptive:
        raise ValueError(f"solver '{solver}' has no error estimate: give a fixed step, for instance dt=0.1")
    if dt is not None and not method.info.fixed_step:
        raise ValueError(f"solver '{solver}' chooses its own steps: leave dt=None and give rtol and atol")
    if isinstance(dt, (float, int)) and not dt > 0:
        raise ValueError(f"dt is {dt}; a step size is positive, also backwards in time")
    return method


def checked_state(flat: Tensor) -> None:
    """TypeError for a state of integers."""
    if not (flat.is_floating_point() or flat.is_complex()):
        raise TypeError(f"y0 is {flat.dtype}; a state is floating point or complex: y0.float() makes it so")


def checked_times(times: Tensor, open_ended: bool = False) -> list[float]:
    """The times as host floats: the one transfer of a solve that is not a step's.

    The last one may be infinite if the solve is ``open_ended``: if an event ends it.
    """
    if times.dim() != 1 or len(times) == 0:
        raise ValueError(f"ts has shape {list(times.shape)}; it is one dimension of times, for instance [0.0, 1.0]")
    host: list[float] = times.detach().to(torch.float64).tolist()
    finite = host[: max(1, len(host) - open_ended)]
    if not all(map(math.isfinite, finite)) or math.isnan(host[-1]):
        raise ValueError(f"ts holds NaN or infinity; {FINITE}")
    rising = [b - a for a, b in zip(host, host[1:], strict=False)]
    if not (all(d >= 0 for d in rising) or all(d <= 0 for d in rising)):
        raise ValueError("ts goes forth and back; times are monotone, either way")
    return host


FINITE = "times are finite, but for the last one if a terminal event ends the solve"


def checked_grid(dt: FixedStep | None, ts: Sequence[float]) -> tuple[float | None, tuple[float, ...] | None]:
    """(step size, None), (None, rising grid), or (None, None) for adaptive steps."""
    if dt is None or isinstance(dt, (float, int)):
        return dt, None
    grid = torch.as_tensor(dt, dtype=torch.float64).detach().tolist()
    if grid != sorted(set(grid)) and grid[::-1] != sorted(set(grid)):
        raise ValueError("a grid of steps given as dt is strictly monotone")
    if len(grid) < 2 or {grid[0], grid[-1]} != {ts[0], ts[-1]}:
        raise ValueError(f"a grid of steps given as dt goes from the first to the last of ts, {ts[0]:g} to {ts[-1]:g}")
    return None, tuple(sorted(grid))


def checked_norm(norm: str | Norm, layout: Layout) -> Norm:
    """``rms``, ``max``, ``items`` (the largest rms among a nested state's tensors) or the caller's own."""
    if not isinstance(norm, str):
        return max_state_norm(norm, sum(layout.sizes))
    items = max_state_norm(max_rms_norm(layout.sizes), sum(layout.sizes))
    norms = {"rms": rms, "max": max_norm, "items": items}
    return norms[named("norm", norm, norms)]


def checked_controller(controller: str | StepController) -> StepController:
    if isinstance(controller, StepController):
        return controller
    return CONTROLLERS[named("controller", controller, CONTROLLERS)]


def named(kind: str, word: str, known: Iterable[str]) -> str:
    """``word`` if known; ValueError with the nearest right one if not."""
    options = list(known)
    if word in options:
        return word
    near = difflib.get_close_matches(word, options, n=1)
    meant = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(sorted(options))}"
    raise ValueError(f"no {kind} '{word}'; {meant}")


def flattened(tolerance: Any, layout: Layout, like: Tensor) -> Any:
    """A number, or a tolerance per component in the state's own nesting as [N], beside the state ``like``."""
    if isinstance(tolerance, (float, int)) or (isinstance(tolerance, Tensor) and tolerance.dim() == 0):
        if not tolerance >= 0:
            raise ValueError(f"a tolerance is {tolerance}; it is a number of at least 0")
        return float(tolerance)
    tolerance = map_tensors(lambda x: x.to(like.device, like.dtype.to_real()), tolerance)
    if layout.pairs:  # the same for both parts of a complex number
        tolerance = map_tensors(lambda x: torch.complex(x, x), tolerance)
    return layout.flatten(tolerance, "a tolerance has")


def checked_precision(like: Tensor, method: Method, control: StepOptions) -> None:
    """ValueError for a half precision state that this solver, or this tolerance, is not for."""
    if torch.finfo(like.dtype).bits > 16:
        return
    kind, eps = str(like.dtype).removeprefix("torch."), torch.finfo(like.dtype).eps
    if method.info.implicit:
        raise ValueError(f"solver '{method.name}' solves linear systems, which torch does not in {kind}: {WIDER}")
    if not control.fixed and float(torch.as_tensor(control.rtol).min()) < eps:
        raise ValueError(f"rtol is below {eps:.1e}, the resolution of {kind}: loosen it, or {WIDER}")


WIDER = "use a state in float32, y0.float(); under torch.autocast f still computes in half precision"


def warn_of_coarse_times(host: Sequence[float], dtype: torch.dtype) -> None:
    """Say so where t, which f receives in the state's ``dtype``, is hardly told from its neighbours among the times."""
    finite = [t for t in host if math.isfinite(t)]
    gap = min((abs(b - a) for a, b in zip(finite, finite[1:], strict=False) if a != b), default=math.inf)
    eps = torch.finfo(dtype).eps
    rounding = eps * max(map(abs, finite))
    if rounding > max(1e-3, 10 * eps) * gap:
        kind = str(dtype).removeprefix("torch.")
        warnings.warn(
            f"f receives t in the state's dtype, {kind}, which rounds times of this size by {rounding / 2:.1e} while "
            f"ts are {gap:.1e} apart: count t from the start of the solve, or use a state in float64",
            RuntimeWarning,
            stacklevel=3,
        )
