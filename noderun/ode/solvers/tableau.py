"""Butcher tableaus with their error estimate and continuous extension, which check themselves when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import mul
from typing import Any

from noderun.ode.solvers.rooted_trees import ElementaryWeights, density, trees

Row = tuple[float, ...]

TOLERANCE = 1e-9  # of the conditions, relative to their terms: coefficients may be given with ten digits


@dataclass(frozen=True)
class ButcherTableau:
    """Coefficients of a Runge-Kutta method; Hairer, Norsett, Wanner, Solving ODEs I, II.1.

    ``a[i]`` weighs k_0, k_1, ... in stage i, ``b`` the solution, and ``error`` is b minus the embedded b, whose order
    is ``error_order``. ``dense[i]`` are the coefficients of theta, theta^2, ... by which k_i enters y(t + theta h);
    ``dense_a`` and ``dense_c`` describe stages that only the continuous extension needs. A method of order p whose
    ``dense`` has local order q, its ``dense_order``, is accurate to min(p, q + 1) between steps.

    Without ``dense`` the extension is the cubic Hermite interpolant, and f at the step's end its additional stage;
    without ``error_order`` the embedded b is of order p - 1.

    Raises ValueError if rows are too long or too short, if a row of a does not sum to its c, or if the weights do not
    satisfy the order conditions (HNW I, theorem II.2.13) up to the orders that are stated.
    """

    order: int
    a: tuple[Row, ...]
    b: Row
    c: Row
    dense: tuple[Row, ...] = ()
    dense_order: int = 0
    dense_a: tuple[Row, ...] = ()
    dense_c: Row = ()
    error: Row | None = None
    error_order: int = 0
    low_error: Row | None = None  # a second estimate, which ``combined`` joins with the first

    def __post_init__(self) -> None:
        for name in ("a", "dense", "dense_a"):  # as tuples, whatever sequences they are, so that tableaus are hashable
            self.set(**{name: tuple(tuple(row) for row in getattr(self, name))})
        for name in ("b", "c", "dense_c", "error", "low_error"):
            row = getattr(self, name)
            self.set(**{name: None if row is None else tuple(row)})
        self.check_shapes()
        if self.error is not None and not self.error_order:
            self.set(error_order=self.order - 1)
        if not self.dense and self.fsal:
            self.set(dense=hermite(self.b[:-1]), dense_order=min(self.order, 3))
        elif not self.dense:
            end = {"dense_a": (self.b,), "dense_c": (1.0,)}
            self.set(dense=hermite(self.b), dense_order=min(self.order, 3), **end)
        self.check_orders()

    def set(self, **fields: Any) -> None:
        """Fill in what was left out; possible while the tableau is made only."""
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def check_shapes(self) -> None:
        s, all_stages = self.stages, self.stages + len(self.dense_a)
        if not len(self.a) == len(self.c) == s:
            raise ValueError(f"a tableau with {s} weights b has {len(self.a)} rows of a and {len(self.c)} nodes c")
        if len(self.dense_a) != len(self.dense_c) or len(self.dense) > all_stages:
            raise ValueError("dense has a row per stage of a and dense_a, and dense_a has a row per node of dense_c")
        for name, row in (("error", self.error), ("low_error", self.low_error)):
            if row is not None and len(row) > s:
                raise ValueError(f"{name} has {len(row)} weights for {s} stages")
        for i, (row, c) in enumerate(zip((*self.a, *self.dense_a), (*self.c, *self.dense_c), strict=True)):
            if len(row) > (s if i < s else i):
                raise ValueError(f"row {i} of a has {len(row)} weights, of stages that are not there yet")
            if abs(sum(row) - c) > TOLERANCE * (1 + sum(map(abs, row))):
                raise ValueError(f"row {i} of a sums to {sum(row):.12g} and not to its node c = {c:.12g}")

    def check_orders(self) -> None:
        phi = ElementaryWeights((*self.a, *self.dense_a))
        require_order("b", [self.b], self.order, phi)
        if self.error is not None:
            embedded = [b - e for b, e in zip(self.b, padded(self.error, self.stages), strict=True)]
            require_order("b - error", [embedded], self.error_order, phi)
        degree = max(*map(len, self.dense), self.dense_order)
        powers = list(zip(*(padded(row, degree) for row in self.dense), strict=True))
        require_order("dense", powers, self.dense_order, phi)
        ends = padded([sum(row) for row in self.dense], len(phi.a))
        if max(abs(end - b) for end, b in zip(ends, padded(self.b, len(ends)), strict=True)) > TOLERANCE * self.scale:
            raise ValueError("dense at theta = 1 differs from b, so the continuous extension misses the step's end")

    @property
    def scale(self) -> float:
        """Of rounding errors in sums of the coefficients of ``dense``."""
        return 1 + max(sum(map(abs, row)) for row in self.dense)

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


def require_order(name: str, powers: Sequence[Sequence[float]], order: int, phi: ElementaryWeights) -> None:
    """ValueError unless sum_i b_i(theta) Phi_i(tree) = theta^p / gamma(tree) for each tree of p <= ``order`` vertices.

    ``powers[j]`` are the coefficients of theta^(j + 1) in the b_i(theta); constant weights have one row, at theta = 1.
    """
    for p in range(1, order + 1):
        for tree in trees(p):
            weights = phi(tree)
            for j, row in enumerate(powers, start=1):
                expected = 1 / density(tree) if len(powers) == 1 or j == p else 0.0
                terms = list(map(mul, row, weights))
                if not abs(sum(terms) - expected) <= TOLERANCE * (1 + sum(map(abs, terms))):
                    raise ValueError(f"{name} is of order {p - 1}, by the order conditions, not of order {order}")


def padded(row: Sequence[float], length: int) -> Row:
    return (*row, *[0.0] * (length - len(row)))


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
