"""The DETEST set of nonstiff problems: Hull, Enright, Fellen, Sedgwick 1972, SIAM J. Numer. Anal. 9(4).

Public copies disagree in four places. They are settled by Enright and Pryce 1987 (ACM TOMS 13(1), Algorithm 648), the
set as one of its own authors printed it in Fortran, whose values at t = 20 every problem here reproduces (tests):
C3 and C4 have -2 in the last row of the matrix too; C5 starts Neptune at 1.65699966404; E4 has the constant 0.032.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.special import ellipj
from torch import Tensor

from noderun.lab.problems.elementary import angular_momentum, kepler_energy, kepler_field, kepler_orbit
from noderun.lab.problems.outer_planets import PLANETS, planets_field
from noderun.lab.problems.problem import Exact, Problem

Field = Callable[[Tensor, Tensor], Tensor]


def problem(name: str, what: str, f: Field, y0: tuple[float, ...], exact: Exact | None = None) -> Problem:
    return Problem(f"detest_{name}", f, y0, (0.0, 20.0), f"Hull et al. 1972, {name.upper()}: {what}", exact)


def matrix(rows: list[list[float]]) -> Field:
    constant = torch.tensor(rows, dtype=torch.float64)
    return lambda t, y: constant.to(y) @ y


def unit(n: int) -> tuple[float, ...]:
    return (1.0, *[0.0] * (n - 1))


def decay_chain(rates: list[float]) -> Field:
    """y_i' = rates_(i-1) y_(i-1) - rates_i y_i; the last species is stable."""
    outflow, n = [*rates, 0.0], len(rates) + 1
    return matrix([[-outflow[i] if j == i else outflow[j] if j == i - 1 else 0.0 for j in range(n)] for i in range(n)])


def parabolic(n: int) -> Field:
    return matrix([[-2.0 if i == j else float(abs(i - j) == 1) for j in range(n)] for i in range(n)])


def a5(t: Tensor, y: Tensor) -> Tensor:
    return (y - t) / (y + t)


def b1(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack((2 * (y[0] - y[0] * y[1]), y[0] * y[1] - y[1]))


def b3(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack((-y[0], y[0] - y[1] ** 2, y[1] ** 2))


def b4(t: Tensor, y: Tensor) -> Tensor:
    r = torch.hypot(y[0], y[1])
    return torch.stack((-y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r))


def b5(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack((y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]))


def orbit(name: str, e: float) -> Problem:
    """Class D: an orbit of eccentricity e."""
    y0 = (1 - e, 0.0, 0.0, math.sqrt((1 + e) / (1 - e)))
    invariants = {"energy": kepler_energy, "angular momentum": angular_momentum}
    source = f"Hull et al. 1972, {name.upper()}: two bodies, eccentricity {e:g}"
    return Problem(f"detest_{name}", kepler_field, y0, (0.0, 20.0), source, kepler_orbit(e), invariants, separable=True)


def second_order(g: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Field:
    """y'' = g(t, y, y') as a system."""
    return lambda t, y: torch.stack((y[1], g(t, y[0], y[1])))


def bessel(t: float) -> tuple[float, float]:
    """J_1/2(t + 1) = sqrt(2 / (pi x)) sin x at x = t + 1, and its derivative."""
    x = t + 1
    scale = math.sqrt(2 / (math.pi * x))
    return scale * math.sin(x), scale * (math.cos(x) - math.sin(x) / (2 * x))


def falling_body(t: float) -> tuple[float, float]:
    rate, limit = math.sqrt(0.032 * 0.4), math.sqrt(0.032 / 0.4)
    return 30 + math.log(math.cosh(rate * t)) / 0.4, limit * math.tanh(rate * t)


def pursuit(t: float) -> tuple[float, float]:
    """y' = sinh(ln(25 / (25 - t)))."""
    s = 25 - t
    return (25 * math.log(25 / s) - (625 - s * s) / 50) / 2, (25 / s - s / 25) / 2


DETEST: tuple[Problem, ...] = (
    problem("a1", "negative exponential", lambda t, y: -y, (1.0,), lambda t: (math.exp(-t),)),
    problem("a2", "Riccati equation", lambda t, y: -0.5 * y**3, (1.0,), lambda t: (1 / math.sqrt(1 + t),)),
    problem("a3", "oscillatory", lambda t, y: y * torch.cos(t), (1.0,), lambda t: (math.exp(math.sin(t)),)),
    problem("a4", "logistic", lambda t, y: y / 4 * (1 - y / 20), (1.0,), lambda t: (20 / (1 + 19 * math.exp(-t / 4)),)),
    problem("a5", "spiral", a5, (4.0,)),
    problem("b1", "two conflicting populations", b1, (1.0, 3.0)),
    problem("b2", "linear reaction", matrix([[-1, 1, 0], [1, -2, 1], [0, 1, -1]]), (2.0, 0.0, 1.0)),
    problem("b3", "nonlinear reaction", b3, unit(3)),
    problem("b4", "integral surface of a torus", b4, (3.0, 0.0, 0.0)),
    problem("b5", "rigid body", b5, (0.0, 1.0, 1.0), lambda t: tuple(map(float, ellipj(t, 0.51)[:3]))),
    problem("c1", "radioactive chain", decay_chain([1.0] * 9), unit(10)),
    problem("c2", "radioactive chain", decay_chain([float(i) for i in range(1, 10)]), unit(10)),
    problem("c3", "parabolic equation", parabolic(10), unit(10)),
    problem("c4", "parabolic equation", parabolic(51), unit(51)),
    problem("c5", "five outer planets", planets_field, PLANETS),
    *(orbit(f"d{i}", e) for i, e in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), start=1)),
    problem(
        "e1", "Bessel's equation", second_order(lambda t, y, v: -v / (t + 1) - (1 - 0.25 / (t + 1) ** 2) * y),
        bessel(0.0), bessel,
    ),
    problem("e2", "van der Pol", second_order(lambda t, y, v: (1 - y**2) * v - y), (2.0, 0.0)),
    problem("e3", "Duffing", second_order(lambda t, y, v: y**3 / 6 - y + 2 * torch.sin(2.78535 * t)), (0.0, 0.0)),
    problem("e4", "falling body", second_order(lambda t, y, v: 0.032 - 0.4 * v**2), (30.0, 0.0), falling_body),
    problem("e5", "pursuit", second_order(lambda t, y, v: torch.sqrt(1 + v**2) / (25 - t)), (0.0, 0.0), pursuit),
)  # fmt: skip
