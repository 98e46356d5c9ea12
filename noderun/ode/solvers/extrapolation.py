"""Stages that a method puts before or behind its step, where the interval of a solve or a smooth part of f may end.

There f is not called: its value is the cubic in t, at fixed y, through f at four times of the step. The error of
order h^4 enters the few steps that such an end is next to, so no method of up to order 5 loses its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from noderun.ode.solvers.times import Bounds, stage_times

NODES = (0.0, 1 / 3, 2 / 3, 1.0)
Time = Tensor | list[tuple[Any, Tensor]]  # of a stage, or the weights of f at other times


def extrapolated_times(t: float, h: float, c: Sequence[float], like: Tensor, bounds: Bounds) -> list[Time]:
    """t + c_i h as ``stage_times`` makes them, extrapolated where that is outside of the step's part of the way."""
    times: list[Time] = list(stage_times(t, h, c, like, bounds))
    if all(0 <= c_i <= 1 for c_i in c):
        return times
    low, high = bounds.smooth_part(t, t + h)
    for i, c_i in enumerate(c):
        if not (0 <= c_i <= 1 or low <= t + c_i * h <= high):
            times[i] = list(zip(weights(c_i), stage_times(t, h, NODES, like, bounds), strict=True))
    return times


def weights(x: Any) -> list[Any]:
    """Of the values at NODES in the cubic through them at x; Lagrange's formula."""
    found = []
    for node in NODES:
        weight: Any = 1.0
        for other in NODES:
            weight = weight if other == node else weight * ((x - other) / (node - other))
        found.append(weight)
    return found


def at(f: Callable[[Tensor, Tensor], Tensor], time: Time, y: Tensor) -> Tensor:
    """f(t, y), also where it is extrapolated."""
    if isinstance(time, Tensor):
        return f(time, y)
    first, *rest = (weight * f(t, y) for weight, t in time)
    return sum(rest, first)
