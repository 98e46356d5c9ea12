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
