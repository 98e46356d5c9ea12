"""Initial value problems with exact solutions, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Exact:
    """y' = f(t, y) with y(t) = exact(t); t is a 0-dim tensor."""

    f: Callable[[Tensor, Any], Any]
    exact: Callable[[Tensor], Any]
    t0: float
    t1: float

    def at(self, t: float) -> Any:
        return self.exact(torch.tensor(t, dtype=torch.float64))

    @property
    def y0(self) -> Any:
        return self.at(self.t0)


def coupled(y: Tensor) -> Tensor:
    a, b = y.unbind()
    return torch.stack([b * b - a, -a * b - 0.5 * b])


def curve(t: Tensor) -> Tensor:
    return torch.stack([torch.sin(t) + 0.3 * t, torch.cos(2 * t)])


def curve_slope(t: Tensor) -> Tensor:
    return torch.stack([torch.cos(t) + 0.3, -2 * torch.sin(2 * t)])


# Nonlinear, coupled and non-autonomous: a method with a wrong node c_i or a wrong weight loses orders on it.
NONAUTONOMOUS = Exact(lambda t, y: curve_slope(t) + coupled(y) - coupled(curve(t)), curve, 0.1, 2.1)


def forced_spring(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    q, p = state
    return p, -(q**3) + torch.sin(t) ** 3 - torch.sin(t)


# Separable, nonlinear and non-autonomous, for methods that split (q, p).
SEPARABLE = Exact(forced_spring, lambda t: (torch.sin(t).reshape(1), torch.cos(t).reshape(1)), 0.1, 2.1)


def kepler(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The two-body problem in the plane; its period is 2 pi for an energy of -1/2."""
    q, p = state
    return p, -q / torch.linalg.vector_norm(q) ** 3


def kepler_start(eccentricity: float) -> tuple[Tensor, Tensor]:
    """At the pericentre, with energy -1/2."""
    e = eccentricity
    q = torch.tensor([1 - e, 0.0], dtype=torch.float64)
    return q, torch.tensor([0.0, ((1 + e) / (1 - e)) ** 0.5], dtype=torch.float64)


def kepler_energy(q: Tensor, p: Tensor) -> Tensor:
    return p.square().sum(-1) / 2 - 1 / torch.linalg.vector_norm(q, dim=-1)


def van_der_pol(y: Tensor, mu: float) -> Tensor:
    """y [..., 2]."""
    x, v = y.unbind(-1)
    return torch.stack([v, mu * (1 - x * x) * v - x], dim=-1)


@dataclass(frozen=True)
class Stiff:
    """y' = f(y) on [0, t1]; f maps the components of y to those of y', of whatever array type."""

    f: Callable[..., Any]
    y0: list[float]
    t1: float
    scale: float  # of the smallest components: atol = scale rtol
    end: list[float] | None = None  # y(t1), where one is published


def rober(a: Any, b: Any, c: Any) -> Any:
    slow, square, fast = 0.04 * a, 3e7 * b * b, 1e4 * b * c
    return -slow + fast, slow - fast - square, square


def hires(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    meet = 280 * f * h
    return (
        -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
        1.71 * a - 8.75 * b,
        -10.03 * c + 0.43 * d + 0.035 * e,
        8.32 * b + 1.71 * c - 1.12 * d,
        -1.745 * e + 0.43 * f + 0.43 * g,
        -meet + 0.69 * d + 1.71 * e - 0.43 * f + 0.69 * g,
        meet - 1.81 * g,
        -meet + 1.81 * g,
    )


def orego(a: Any, b: Any, c: Any) -> Any:
    return 77.27 * (b + a * (1 - 8.375e-6 * a - b)), (c - (1 + a) * b) / 77.27, 0.161 * (a - c)


# Hairer, Wanner, Solving ODEs II, IV.10; ends from the Test Set for IVP Solvers, release 2.4.
STIFF = {
    "rober": Stiff(rober, [1.0, 0.0, 0.0], 1e5, 1e-8),
    "hires": Stiff(
        hires,
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057],
        321.8122,
        1e-8,
        [
            0.7371312573325668e-3,
            0.1442485726316185e-3,
            0.5888729740967575e-4,
            0.1175651343283149e-2,
            0.2386356198831331e-2,
            0.6238968252742796e-2,
            0.2849998395185769e-2,
            0.2850001604814231e-2,
        ],
    ),
    "orego": Stiff(
        orego, [1.0, 2.0, 3.0], 360.0, 1e-6, [0.1000814870318523e1, 0.1228178521549917e4, 0.1320554942846706e3]
    ),
    "van_der_pol": Stiff(lambda x, v: (v, 1e3 * (1 - x * x) * v - x), [2.0, 0.0], 2000.0, 1e-6),
}
