"""The times at which f is called: made in double precision on the host, inside the interval of the solve."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Bounds(NamedTuple):
    """The times between which f may be called, and the jumps of f in between, rising."""

    low: Any  # a number, or a tensor [] of the device
    high: Any
    jumps: tuple[float, ...] = ()

    def smooth_part(self, t: float, t_end: float) -> tuple[float, float]:
        """The ends of the interval between jumps in which a step from t to t_end lies."""
        first, last = min(t, t_end), max(t, t_end)
        before = [jump for jump in self.jumps if self.low < jump < first]
        behind = [jump for jump in self.jumps if last < jump < self.high]
        return max([self.low, *before]), min([self.high, *behind])


NEAR = 1e-9  # of a step: a time this close to the step's end is its end, where y is known without interpolation
UNBOUNDED = Bounds(-math.inf, math.inf)
CODES = {torch.float32: "f", torch.float64: "d"}  # type codes of Python's arrays


def stage_times(
    t: float | Tensor, h: float | Tensor, c: Sequence[float], like: Tensor, bounds: Bounds
) -> tuple[Tensor, ...]:
    """t + c_i h as 0-dim tensors of like's real dtype: summed in double on the host, one transfer per step.

    Rounding may carry a sum beyond the interval, also that to like's dtype: such a time is moved to the bound. If t and
    h are tensors, so are the bounds, and nothing comes to the host.
    """
    if isinstance(t, Tensor):
        nodes = torch.clamp(t + constants(tuple(c), t.device) * h, bounds.low, bounds.high)
        return nodes.to(like.dtype.to_real()).unbind()
    assert not isinstance(h, Tensor)
    dtype, at, (low, high, _) = like.dtype.to_real(), [t + c_i * h for c_i in c], bounds
    if not (low <= t <= high and low <= t + h <= high):
        at = [min(max(time, low), high) for time in at]
    code = CODES.get(dtype)  # a tensor is made from an array in a third of the time
    times = torch.frombuffer(array(code, at), dtype=dtype) if code else torch.tensor(at, dtype=dtype)
    return (times if like.device.type == "cpu" else times.to(like.device, non_blocking=True)).unbind()


@functools.cache  # of all tableaus: few, and a graph reads them at their addresses
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers as a tensor in double precision, made once."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float64, device=device)


def bounds_of(ts: Sequence[float], jumps: tuple[float, ...], dtype: torch.dtype) -> Bounds:
    """The numbers of ``dtype`` between which a solve over ``ts`` may call f: inside, also of a jump at an end."""
    first, last = min(ts[0], ts[-1]), max(ts[0], ts[-1])
    low = first + margin(first, dtype) if first in jumps else first
    high = last - margin(last, dtype) if last in jumps else last
    low, high = inward(low, dtype, 1), inward(high, dtype, -1)
    if low <= high:
        return Bounds(low, high, jumps)
    return Bounds(rounded(first, dtype), rounded(last, dtype), jumps)  # no number of dtype lies inside


def inward(t: float, dtype: torch.dtype, side: int) -> float:
    """The number of ``dtype`` nearest to t that is not below it (``side`` 1), or not above it (-1)."""
    nearest, info = rounded(t, dtype), torch.finfo(dtype)
    if side * nearest >= side * t:
        return nearest
    ulp = math.ldexp(info.eps, math.frexp(nearest)[1] - 1) if nearest else 0.0
    return nearest + side * max(ulp, info.smallest_normal)


def rounded(t: float, dtype: torch.dtype) -> float:
    """The number of ``dtype`` nearest to t."""
    code = CODES.get(dtype)
    return array(code, (t,))[0] if code else torch.tensor(t, dtype=dtype).item()


def margin(jump: float, dtype: torch.dtype) -> float:
    """The distance from a jump of f at which ``dtype`` can tell a time from it."""
    return max(torch.finfo(dtype).eps * abs(jump), 4 * math.ulp(jump), torch.finfo(dtype).tiny)


def times_inside(times: Sequence[float], t: float, t_end: float) -> list[float]:
    """The rising ``times`` strictly between t and t_end, in the order from t to t_end."""
    inside = [x for x in times if min(t, t_end) < x < max(t, t_end)]
    return inside if t_end > t else inside[::-1]


def smooth_parts(
    jumps: Sequence[float], t: float, t_end: float, dtype: torch.dtype
) -> Iterator[tuple[float, float | None]]:
    """For each interval from t to t_end in which f is smooth: its end, and the start of the next, None at last."""
    for jump in times_inside(jumps, t, t_end):
        stop, start = split_at_jump(jump, t, t_end, dtype)
        yield stop, start
        t = start
    yield t_end, None


def split_at_jump(jump: float, t: float, t_end: float, dtype: torch.dtype) -> tuple[float, float]:
    """The last time before and the first after a jump of f that ``dtype`` can tell from it, from t to t_end.

    A step that ends at the one and a step that starts at the other evaluate f on their own side of the jump only.
    """
    size = margin(jump, dtype)
    signed = math.copysign(size, t_end - t)
    return (jump - signed if abs(jump - t) > size else t), jump + signed
