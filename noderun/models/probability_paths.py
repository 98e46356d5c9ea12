"""Probability paths: how a flow is to go from a point x0 of its source to a point x1 of the data, for t from 0 to 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noderun import noise


class Path(ABC):
    """``path(x0, x1, t)`` is (x_t, u_t) [B, ...]: a point of the path and its velocity there; t is [B, 1, ..., 1].

    A field that minimizes E |f(t, x_t) - u_t|^2 carries the density of x0 to that of x1 (Lipman et al. 2023, theorem
    2). Training draws t below ``last``.
    """

    last: ClassVar[float] = 1.0

    @abstractmethod
    def __call__(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Linear(Path):
    """x_t = (1 - t) x0 + t x1 + sigma e with e ~ N(0, I), and u_t = x1 - x0 (Tong et al. 2024, section 3.2)."""

    sigma: float = 0.0

    def __call__(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        velocity = x1 - x0
        point = x0 + t * velocity
        if self.sigma:
            point = point + self.sigma * noise.for_batch(torch.randn, point.shape, point)
        return point, velocity


@dataclass(frozen=True)
class VariancePreserving(Path):
    """x_t = a x1 + s x0, x0 ~ N(0, I), with a = exp(-B/2) and s^2 = 1 - a^2 (Lipman et al. 2023, equation 18).

    B is the integral of b(r) = b_0 + (b_1 - b_0) r from 0 to 1 - t, so the path is the variance-preserving diffusion of
    Song et al. 2021 backward in time, and its ODE their probability-flow ODE: -x0 / s is the score of x_t given x1, and
    the regression on u_t is denoising score matching with another weight over t.
    """

    last: ClassVar[float] = 1 - 1e-5  # ds/dt is infinite at t = 1; Song et al. stop there, too
    b_0: float = 0.1
    b_1: float = 20.0

    def __call__(self, x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r = 1 - t
        rate = self.b_0 + (self.b_1 - self.b_0) * r
        integral = self.b_0 * r + 0.5 * (self.b_1 - self.b_0) * r.square()
        a, s = torch.exp(-0.5 * integral), torch.sqrt(-torch.expm1(-integral))
        # da/dt = b a / 2, and s ds/dt = -a da/dt
        return a * x1 + s * x0, 0.5 * rate * a * (x1 - a / s * x0)
