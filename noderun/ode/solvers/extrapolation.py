"""Stages outside of their step, which may lie beyond the interval of the solve or beyond a jump of f.

f is not called there: its value is the cubic in t, at fixed y, through f at four times of the step. The error of order
h^4 enters only the few steps next to such an end, so no method of up to order 5 loses its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from noderun.ode.solvers.times import Bounds, stage_times

NODES = (0.0, 1 / 3, 2 / 3, 1.0)
Time = Tensor | list[tuple[Any, Tensor]]  # of a stage, or the weights of f at other times


def extrapolated_times(t: float, h: float, c: Sequence[float], like: Tensor, bounds: Bounds) -> list[Time]:
    """t + c_i h as ``stage_times`` makes them, or extrapolated if that lies outside of the smooth part."""
    times: list[Time] = list(stage_times(t, h, c, like, bounds))
    if all(0 <= c_i <= 1 for c_i in c):
        return times
    low, high = bounds.smooth_part(t, t + h)
    for i, c_i in enumerate(c):
        if not (0 <= c_i <= 1 or low <= t + c_i * h <= high):
            times[i] = list(zip(weights(c_i), stage_times(t, h, NODES, like, bounds), strict=True))
    return times


def weights(x: Any) -> list[Any]:
    """The weights of the values at NODES in the cubic through them at x; Lagrange's formula."""
    found = []
    for node in NODES:
        weight: Any = 1.0
        for other in NODES:
            weight = weight if other == node else weight * ((x - other) / (node - other))
        found.append(weight)
    return found


def at(f: Callable[[Tensor, Tensor], Tensor], time: Time, y: Tensor) -> Tensor:
    """f(t, y), called or extrapolated."""
    if isinstance(time, Tensor):
        return f(time, y)
    first, *rest = (weight * f(t, y) for weight, t in time)
    return sum(rest, first)
