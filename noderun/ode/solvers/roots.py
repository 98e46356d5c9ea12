"""Bracketed roots of scalar functions, many at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

WIDTH = 2.0**-50  # of the bracket that is returned, in units of [0, 1]


def roots(value: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, v_low: Tensor, v_high: Tensor) -> Tensor:
    """x [n] in [low, high], part of [0, 1], with value(x) = 0, if ``value`` [n] -> [n] changes sign in between.

    Interpolate, truncate, project: as fast as the secant method if that converges, and never more than one
    evaluation slower than bisection. Oliveira, Takahashi 2020, ACM Trans. Math. Software 47(1), with k1 = 0.2, k2 = 2.
    """
    a, b, v_a, v_b = low, high, v_low, v_high
    most = math.ceil(-math.log2(WIDTH)) + 1
    for j in range(most + 1):
        if not ((b - a).max() > 2 * WIDTH):
            break
        half, width = (a + b) / 2, b - a
        secant = torch.where(v_b == v_a, half, (v_b * a - v_a * b) / (v_b - v_a))
        side = torch.sign(half - secant)
        truncated = torch.where(0.2 * width**2 <= (half - secant).abs(), secant + side * 0.2 * width**2, half)
        reach = (WIDTH * 2.0 ** (most - j) - width / 2).clamp_min(0.0)
        x = torch.where((truncated - half).abs() <= reach, truncated, half - side * reach)
        v = value(x)
        right, left = torch.sign(v) == torch.sign(v_b), torch.sign(v) == torch.sign(v_a)
        a, v_a = torch.where(right, a, x), torch.where(right, v_a, v)
        b, v_b = torch.where(left, b, x), torch.where(left, v_b, v)
    return torch.where(v_b == 0, b, (a + b) / 2)
