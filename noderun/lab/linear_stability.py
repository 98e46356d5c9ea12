"""Linear stability theory of one-step and multistep methods; Hairer, Wanner, Solving ODEs II, IV.3 and V.1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.polynomial import polynomial

Array = np.ndarray[Any, Any]
ROUNDOFF = 1e-10
LIMIT = 1e3  # a stability interval beyond this counts as unbounded


@dataclass(frozen=True)
class StabilityFunction:
    """R(z) = P(z) / Q(z), coefficients of 1, z, z^2, ...; y1 = R(h lambda) y0 on y' = lambda y."""

    p: tuple[float, ...]
    q: tuple[float, ...]

    @staticmethod
    def of(a: Sequence[Sequence[float]], b: Sequence[float], e: Sequence[float] | None = None) -> StabilityFunction:
        """R(z) = 1 + z b^T (I - z A)^-1 e as a quotient of determinants, (IV.3.2); e is all ones by default."""
        s = len(b)
        matrix = np.array([[*row, *[0.0] * (s - len(row))] for row in a])
        ones = np.ones(s) if e is None else np.array(e)
        # det(I - z M) has the coefficients of M's characteristic polynomial, highest power first
        numerator, denominator = np.poly(matrix - np.outer(ones, b)), np.poly(matrix)
        return StabilityFunction(trimmed(numerator), trimmed(denominator))

    def __call__(self, z: Array) -> Array:
        with np.errstate(all="ignore"):
            return polynomial.polyval(z, self.p) / polynomial.polyval(z, self.q)

    @property
    def at_infinity(self) -> float:
        """|R(z)| for z to infinity."""
        if len(self.p) != len(self.q):
            return math.inf if len(self.p) > len(self.q) else 0.0
        return abs(self.p[-1] / self.q[-1])

    @cached_property
    def a_stable(self) -> bool:
        """|R| <= 1 on the left half-plane: on its border, and no poles inside, by the maximum principle."""
        poles = polynomial.polyroots(self.q)
        return bool(np.all(poles.real > 0)) and math.isinf(self.imaginary_interval)

    @property
    def l_stable(self) -> bool:
        return self.a_stable and self.at_infinity < ROUNDOFF

    @cached_property
    def real_interval(self) -> float:
        """The largest x with |R| <= 1 on [-x, 0]; infinite beyond LIMIT."""
        steps = np.concatenate([np.linspace(0, 20, 20_001), np.geomspace(20, LIMIT, 2_000)])
        return end_of(lambda x: np.abs(self(-x)) <= 1 + ROUNDOFF, steps)

    @cached_property
    def imaginary_interval(self) -> float:
        """The largest y with |R| <= 1 on [0, iy]: the first sign change of |Q(iy)|^2 - |P(iy)|^2, (IV.3.17)."""
        e = np.zeros(max(len(self.p), len(self.q)))  # a polynomial in y^2, from its constant on
        for sign, c in ((1, self.q), (-1, self.p)):
            square = np.convolve(c, np.array(c) * (-1.0) ** np.arange(len(c)))[::2]  # C(z) C(-z) in powers of z^2
            e[: len(square)] += sign * square * (-1.0) ** np.arange(len(square))
        kept = np.trim_zeros(np.where(np.abs(e) > ROUNDOFF, e, 0.0), "b")
        leading = next((x for x in kept if x), 0.0)
        if leading < 0:
            return 0.0
        roots = polynomial.polyroots(kept) if len(kept) > 1 else np.array([])
        crossings = sorted(x.real for x in roots if abs(x.imag) < 1e-6 * abs(x) and x.real > 1e-6)
        return next((math.sqrt(x) for x in crossings if changes_sign(kept, x)), math.inf)


@dataclass(frozen=True)
class Multistep:
    """sum_i alpha_i y_(n+i) = h sum_i beta_i f_(n+i), highest i first, as rho and sigma are written."""

    alpha: tuple[float, ...]
    beta: tuple[float, ...]

    def consistent(self) -> bool:
        """rho(1) = 0 and rho'(1) = sigma(1)."""
        slope = np.polyval(np.polyder(np.array(self.alpha)), 1.0)
        return abs(sum(self.alpha)) < ROUNDOFF and bool(abs(slope - sum(self.beta)) < ROUNDOFF)

    def order(self) -> int:
        """The p up to which the difference equation holds for polynomials; HNW I, (III.2.6)."""
        k = len(self.alpha) - 1
        times = np.arange(k, -1, -1.0)
        p = 0
        for q in range(20):
            slope = q * times ** max(q - 1, 0) if q else 0 * times
            terms = np.array(self.alpha) * times**q, np.array(self.beta) * slope
            if abs(terms[0].sum() - terms[1].sum()) > 1e-9 * (np.abs(terms[0]).sum() + np.abs(terms[1]).sum()):
                break
            p = q
        return p

    def zero_stable(self) -> bool:
        """Dahlquist's root condition: all roots of rho in the unit disc, those on its border simple."""
        return root_condition(np.roots(self.alpha))

    def locus(self, points: int = 401) -> Array:
        """z where a root of rho - z sigma lies on the unit circle: the border of the stability region."""
        zeta = np.exp(1j * np.linspace(0, 2 * np.pi, points))
        with np.errstate(all="ignore"):
            return np.polyval(self.alpha, zeta) / np.polyval(self.beta, zeta)

    def largest_root(self, z: Array) -> Array:
        """max |zeta| with rho(zeta) = z sigma(zeta) for every z [n]: eigenvalues of companion matrices."""
        c = np.array(self.alpha)[None, :] - z[:, None] * np.array(self.beta)[None, :]
        k = len(self.alpha) - 1
        companion = np.zeros((len(z), k, k), dtype=complex)
        companion[:, 0, :] = -c[:, 1:] / c[:, :1]
        companion[:, range(1, k), range(k - 1)] = 1.0
        return np.abs(np.linalg.eigvals(companion)).max(axis=1)

    def angle(self) -> float:
        """alpha (degrees) of A(alpha)-stability, 90 for an A-stable method; Widlund 1967."""
        if self.beta[0] == 0 or not root_condition(np.roots(self.beta)):
            return 0.0  # explicit, or unstable at infinity
        low, high = 0.0, 90.0
        if self.stable_along(math.radians(90.0)):
            return 90.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self.stable_along(math.radians(middle)) else (low, middle)
        return low

    def stable_along(self, angle: float) -> bool:
        """Whether the ray at ``angle`` from the negative real axis lies in the stability region."""
        ray = -np.geomspace(1e-3, 1e4, 400) * np.exp(-1j * angle)
        return bool(np.all(self.largest_root(ray) <= 1 + 1e-9))

    def real_interval(self) -> float:
        """The largest x with the real interval [-x, 0] in the stability region; infinite beyond LIMIT."""
        steps = np.concatenate([np.linspace(1e-3, 10, 2001), np.geomspace(10, LIMIT, 500)])
        return end_of(lambda x: self.largest_root(-x) <= 1 + 1e-9, steps)


def end_of(stable: Callable[[Array], Array], steps: Array) -> float:
    """The end of the interval that begins with the first of the rising ``steps``: found among them, then by bisection.

    0 if the first one is not stable, infinite if all are.
    """
    kept = stable(steps)
    if kept.all() or not kept[0]:
        return math.inf if kept[0] else 0.0
    first = int(kept.argmin())
    low, high = steps[first - 1], steps[first]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(np.array([middle]))[0] else (low, middle)
    return float(low)


def changes_sign(e: Array, x: float) -> bool:
    """Whether the polynomial turns negative at its root x."""
    return bool(polynomial.polyval(x * 1.001, e) < 0)


def root_condition(roots: Array) -> bool:
    border = roots[np.abs(np.abs(roots) - 1) < 1e-6]
    apart = all(abs(x - y) > 1e-4 for i, x in enumerate(border) for y in border[:i])
    return bool(np.all(np.abs(roots) < 1 + 1e-6)) and apart


def trimmed(coefficients: Array) -> tuple[float, ...]:
    """Without powers that only round-off left."""
    kept = np.where(np.abs(coefficients) > ROUNDOFF * np.abs(coefficients).max(), coefficients, 0.0)
    return tuple(np.trim_zeros(kept, "b").tolist())


def adams_bashforth(k: int) -> Multistep:
    """Explicit, k steps; exact for polynomials f of degree k - 1."""
    return Multistep((1.0, -1.0, *[0.0] * (k - 1)), (0.0, *adams_weights(range(0, -k, -1))))


def adams_moulton(k: int) -> Multistep:
    """Implicit, k steps, order k + 1."""
    return Multistep((1.0, -1.0, *[0.0] * (k - 1)), adams_weights(range(1, -k, -1)))


def bdf(k: int) -> Multistep:
    """Backward differentiation, k steps, order k: sum_(j=1..k) nabla^j y / j = h f; HNW I, (III.1.22')."""
    alpha = np.zeros(k + 1)
    nabla = np.array([1.0])
    for j in range(1, k + 1):
        nabla = np.convolve(nabla, [1.0, -1.0])
        alpha[: j + 1] += nabla / j
    return Multistep(tuple(alpha.tolist()), (1.0, *[0.0] * k))


def adams_weights(times: range) -> tuple[float, ...]:
    """Integrals over [0, 1] of the Lagrange polynomials on ``times``: the moments' linear system."""
    nodes = np.array(list(times), dtype=float)
    powers = np.arange(len(nodes))
    return tuple(np.linalg.solve(nodes[None, :] ** powers[:, None], 1 / (powers + 1)).tolist())
