"""Poisson's equation on an interval with random sources, its solutions, and the energy that they minimize."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.points import require_none
from noderun.data.targets import Values


def poisson(root: Path, augment: bool = False, *, points: int = 31, modes: int = 8, examples: int = 1000) -> Dataset:
    """-u'' = pi^2 sum_k c_k sin(k pi x), u(0) = u(1) = 0, with normal c [``modes``] as inputs.

    The targets are u = sum_k c_k / k^2 sin(k pi x) at ``points`` equal distances inside the interval.
    """
    require_none("poisson", augment)
    x = torch.arange(1, points + 1, dtype=torch.float64) / (points + 1)
    k = torch.arange(1, modes + 1, dtype=torch.float64).unsqueeze(1)
    sines = torch.sin(math.pi * k * x)
    # pi^2 times the integral of sin(k pi x) phi_i, phi_i the piecewise linear function that is 1 at x_i
    h = 1 / (points + 1)
    load = 2 * (1 - torch.cos(math.pi * k * h)) / (h * k**2) * sines

    def draw(count: int, seed: int) -> Batch:
        c = torch.randn(count, modes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return Batch(c.float(), (c @ (sines / k**2)).float())

    return Dataset("poisson", (modes,), Values((points,), RitzEnergy(load, h)), draw(examples, 0), draw(200, 1))


class RitzEnergy:
    """E(u) = 1/2 int u'^2 dx - int f u dx of a piecewise linear u with the values u [B, points], 0 at both ends.

    ``load`` [modes, points] are the integrals of a unit source's product with each hat function, so that both
    integrals are exact. The minimum is the solution by finite elements, which in one dimension has the exact values.
    """

    def __init__(self, load: Tensor, h: float) -> None:
        self.load, self.h = load, h

    def __call__(self, c: Tensor, u: Tensor) -> Tensor:
        """[B] of sources with the coefficients c [B, modes]."""
        slopes = torch.nn.functional.pad(u, (1, 1)).diff(dim=1) / self.h
        return self.h / 2 * slopes.square().sum(1) - (c @ self.load.to(c) * u).sum(1)
