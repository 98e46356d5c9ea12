"""The arguments of sdesolve(), checked: each that cannot work ends in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.arguments import checked_times as ode_times
from noderun.ode.arguments import named
from noderun.ode.gradients import Gradient
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.step_size import SLIVER
from noderun.sde.field import Path
from noderun.sde.gradients import GRADIENTS, refusal
from noderun.sde.noise_types import Noise
from noderun.sde.solvers import METHODS, SOLVERS, Doubled, SDEMethod

INTERPRETATIONS = ("ito", "stratonovich")
CONVERSION = {  # from the drift of the first to that of the second
    "ito": "f - 1/2 (dg/dy) g",
    "stratonovich": "f + 1/2 (dg/dy) g",
}


def checked_times(ts: Tensor | Sequence[float]) -> tuple[Tensor, list[float]]:
    """The output times as a tensor and on the host; ValueError if they are not times of an SDE."""
    times = ts if isinstance(ts, Tensor) else torch.as_tensor(ts, dtype=torch.float64)
    if times.requires_grad:
        raise ValueError("ts requires a gradient, which the times of a stochastic equation have not: detach them")
    host = ode_times(times)
    if host[0] == host[-1]:
        raise ValueError("ts are all the same time: an interval has two")
    return times, host


def checked_state(y0: Any) -> tuple[Layout, Tensor]:
    """The layout and y0 [N]; TypeError or ValueError for a state that no Brownian path fits."""
    layout = Layout.of(y0)
    flat = layout.flatten(y0)
    if flat.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"y0 is {flat.dtype}; a state of a stochastic equation is float32 or float64")
    if len({shape[:1] for shape in layout.shapes}) > 1 or not layout.shapes[0]:
        raise ValueError("y0 has no leading dimension of samples: give [B, ...], for one sample y0.unsqueeze(0)")
    return layout, flat


def checked_method(solver: str, noise: str, interpretation: str, adaptive: bool, backwards: bool) -> Method[Any]:
    """The method; ValueError if it solves other equations or cannot take such steps."""
    method = METHODS[named("solver", solver, METHODS)]
    named("interpretation", interpretation, INTERPRETATIONS)
    info = SOLVERS[solver]
    if noise not in info.noises:
        able = " or ".join(f"'{name}'" for name, other in SOLVERS.items() if noise in other.noises)
        raise ValueError(f"solver '{solver}' cannot take noise='{noise}', which needs Levy areas for it: use {able}")
    if interpretation not in info.interpretations and noise != "additive":
        own = info.interpretations[0]
        able = " or ".join(f"'{name}'" for name, other in SOLVERS.items() if interpretation in other.interpretations)
        raise ValueError(
            f"solver '{solver}' solves {own.capitalize()} equations and f is the drift of one with "
            f"interpretation='{interpretation}': use solver {able}, or give the drift {CONVERSION[interpretation]} "
            f"with interpretation='{own}'"
        )
    if backwards and interpretation == "ito" and noise != "additive":
        raise ValueError(
            f"ts decrease, and Ito's equations go forward in time only: give the drift {CONVERSION['ito']} with "
            "interpretation='stratonovich'"
        )
    if not adaptive:
        return method
    if not isinstance(method, SDEMethod):
        raise ValueError(f"solver '{solver}' carries more than y from step to step and takes fixed steps: give dt=")
    return Doubled(method)


def checked_steps(
    dt: float | Sequence[float] | None, rtol: float | None, atol: float | None, ts: Sequence[float]
) -> tuple[float, ...]:
    """The times at which fixed steps end, or of adaptive ones the output times; rising, each once."""
    outputs = sorted(set(ts))
    if dt is None:
        if not (rtol or atol):
            raise ValueError("give the step size dt=, or rtol= and atol= for adaptive steps")
        return tuple(outputs)
    if rtol is not None or atol is not None:
        raise ValueError("dt fixes the steps, and rtol and atol adapt them: give one or the other")
    if not isinstance(dt, (int, float)):
        return checked_ends(dt, outputs)
    if not 0 < dt < math.inf:
        raise ValueError(f"dt is {dt}; a step size is positive, also backwards in time")
    pairs = list(zip(outputs, outputs[1:], strict=False))
    for start, end in pairs:
        if dt > (end - start) * (1 + SLIVER):
            raise ValueError(
                f"dt = {dt:g} is larger than the {end - start:g} from output t = {start:g} to {end:g}, and every "
                f"output ends a step: give dt of at most {min(b - a for a, b in pairs):g}"
            )
    return step_ends(outputs, dt)


def step_ends(outputs: Sequence[float], dt: float) -> tuple[float, ...]:
    """The ends of steps of at most ``dt``, of which every rising output is one: each gap is divided evenly."""
    ends = list(outputs[:1])
    for start, end in zip(outputs, outputs[1:], strict=False):
        count = math.ceil((end - start) / dt - SLIVER)
        ends += [start + (end - start) * i / count for i in range(1, count)] + [end]
    return tuple(ends)


def checked_ends(ends: Sequence[float], outputs: Sequence[float]) -> tuple[float, ...]:
    """The ends of steps that the caller chose; ValueError if they do not rise from the first output to the last."""
    found = tuple(float(end) for end in ends)
    if len(found) < 2 or found != tuple(sorted(set(found))) or not set(outputs) <= set(found):
        raise ValueError("dt as the ends of steps: at least two times, strictly rising, with every output among them")
    if (found[0], found[-1]) != (outputs[0], outputs[-1]):
        raise ValueError(f"dt as the ends of steps goes from {outputs[0]:g} to {outputs[-1]:g}, as the outputs do")
    return found


def checked_path(path: Path | None, noise: Noise, like: Tensor, ts: Sequence[float]) -> Path | None:
    """The caller's path; ValueError if it is shorter or of another shape, TypeError for another dtype."""
    if path is None:
        return None
    increment = path(ts[0], ts[0])
    path(ts[-1], ts[-1])  # says if it does not reach so far
    if tuple(increment.shape) != noise.shape:
        raise ValueError(
            f"increments of the path have shape {list(increment.shape)}, and noise='{noise.type}' with this y0 and g "
            f"needs {list(noise.shape)}"
        )
    if increment.dtype != like.dtype or increment.device != like.device:
        raise TypeError(
            f"the path is {increment.dtype} on {increment.device} and y0 {like.dtype} on {like.device}: make it alike"
        )
    return path


def make_gradient(gradient: str | Gradient, options: Mapping[str, Any], method: Method[Any]) -> Gradient:
    """The gradient method; ValueError if it cannot be taken through the method, unless none is wanted."""
    chosen = gradient if isinstance(gradient, Gradient) else GRADIENTS[named("gradient", gradient, GRADIENTS)]()
    chosen = chosen.with_options(**options) if options else chosen
    reason = refusal(method, chosen)
    if reason and torch.is_grad_enabled():
        raise ValueError(reason)
    return chosen
