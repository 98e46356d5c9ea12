"""Penalties on the solver's own measures of difficulty: its error estimate and its stiffness (Pal et al. 2021).

As sums over steps, sum_j E_j |h_j|, they would need every quantity of a solve to be differentiable. As an integral
int E dt they need one step only, at a uniformly random time (Pal et al. 2023): E(t) t1 has the right mean for every
gradient method, which only differentiates y(t). The step's size is the mean of the solve and is not differentiated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from noderun.regularizers.quadrature import Field


class Tableau(Protocol):
    """The tableau of an explicit Runge-Kutta pair; ``error`` is b minus the embedded weights."""

    @property
    def a(self) -> Sequence[Sequence[float]]: ...
    @property
    def b(self) -> Sequence[float]: ...
    @property
    def c(self) -> Sequence[float]: ...
    @property
    def error(self) -> Sequence[float] | None: ...


class Local(ABC):
    """A penalty on one step from (t, y [B, ...]) by h."""

    @abstractmethod
    def fits(self, tableau: Tableau) -> bool:
        """Whether a method with this tableau has what the penalty needs."""

    @abstractmethod
    def __call__(self, f: Field, tableau: Tableau, t: float, y: Tensor, h: float) -> Tensor:
        """The penalty [], differentiable."""


class ErrorEstimate(Local):
    """The root mean square of the embedded pair's error estimate."""

    def fits(self, tableau: Tableau) -> bool:
        return tableau.error is not None

    def __call__(self, f: Field, tableau: Tableau, t: float, y: Tensor, h: float) -> Tensor:
        _, ks = stages(f, tableau, t, y, h)
        assert tableau.error is not None
        return rms(weighted_sum(tableau.error, ks) * h)


class Stiffness(Local):
    """|k_s - k_(s-1)| / |y_s - y_(s-1)| of two stages at one time, a lower bound of |df/dy| (Shampine 1977)."""

    def fits(self, tableau: Tableau) -> bool:
        return len(tableau.c) > 2 and tableau.c[-1] == tableau.c[-2]

    def __call__(self, f: Field, tableau: Tableau, t: float, y: Tensor, h: float) -> Tensor:
        ys, ks = stages(f, tableau, t, y, h)
        return rms(ks[-1] - ks[-2]) / rms(ys[-1] - ys[-2]).clamp(min=torch.finfo(y.dtype).tiny)


def stages(f: Field, tableau: Tableau, t: float, y: Tensor, h: float) -> tuple[list[Tensor], list[Tensor]]:
    """The stage states y_i and the derivatives k_i = f(t + c_i h, y_i)."""
    ys: list[Tensor] = []
    ks: list[Tensor] = []
    for row, c in zip(tableau.a, tableau.c, strict=True):
        ys.append(y + h * weighted_sum(row, ks) if ks else y)
        ks.append(f(torch.full((), t + c * h, dtype=y.dtype, device=y.device), ys[-1]))
    return ys, ks


def weighted_sum(weights: Sequence[float], ks: Sequence[Tensor]) -> Tensor:
    """sum_j w_j k_j, of the shape of y."""
    return sum((w * k for w, k in zip(weights, ks, strict=True) if w), torch.zeros_like(ks[0]))


def rms(v: Tensor) -> Tensor:
    """The root mean square of all components []."""
    return torch.linalg.vector_norm(v) / v.numel() ** 0.5
