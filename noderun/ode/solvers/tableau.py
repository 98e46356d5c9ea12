"""Butcher tableaus with their error estimate and continuous extension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Row = tuple[float, ...]


@dataclass(frozen=True)
class ButcherTableau:
    """Coefficients of a Runge-Kutta method; Hairer, Norsett, Wanner, Solving ODEs I, II.1.

    ``a[i]`` weighs k_0..k_(i-1) in stage i, ``b`` the solution, ``error`` is b minus the embedded b (order
    ``error_order``). ``dense[i]`` are the coefficients of theta, theta^2, ... by which k_i enters y(t + theta h);
    ``dense_a``, ``dense_c`` describe stages that only the continuous extension needs. A method of order p whose
    ``dense`` has local order q is accurate to min(p, q + 1) between steps.
    """

    order: int
    a: tuple[Row, ...]
    b: Row
    c: Row
    dense: tuple[Row, ...]
    dense_a: tuple[Row, ...] = ()
    dense_c: Row = ()
    error: Row | None = None
    error_order: int = 0
    low_error: Row | None = None  # a second estimate, which ``combined`` joins with the first

    @property
    def stages(self) -> int:
        return len(self.b)

    @cached_property
    def fsal(self) -> bool:
        """First same as last: the last stage is f at the new state, and so the next step's first."""
        return self.stages > 1 and self.c[-1] == 1 and self.b[-1] == 0 and self.a[-1] == self.b[:-1]

    def dense_weights(self, theta: float) -> list[float]:
        """b_i(theta) for every stage, by Horner's rule."""
        weights = []
        for polynomial in self.dense:
            value = 0.0
            for coefficient in reversed(polynomial):
                value = (value + coefficient) * theta
            weights.append(value)
        return weights


def combined(error: Any, low: Any) -> Any:
    """One error ratio [...] from those of two estimates of orders 5 and 3, as if it were of order 7; HNW I, II.5."""
    return error * (error / (error * error + 0.01 * low * low + 1e-30) ** 0.5)


def hermite(b: Sequence[float]) -> tuple[Row, ...]:
    """The cubic Hermite interpolant as weights of k_0..k_(s-1) and, last, f at the step's end; HNW I, (II.6.7).

    y1 - y0 = h sum b_i k_i turns the usual form in y0, y1, f0, f1 into weights of the derivatives alone.
    """
    rows = [(0.0, 3.0 * b_i, -2.0 * b_i) for b_i in b]
    rows[0] = (1.0, rows[0][1] - 2.0, rows[0][2] + 1.0)
    return (*rows, (0.0, -1.0, 1.0))
