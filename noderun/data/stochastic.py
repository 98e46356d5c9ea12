"""Generated series of stochastic equations dy = f(y) dt + g(y) dW, whose diffusion is known, by a fixed generator."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noderun.data.curves import drawn, noisy
from noderun.data.dataset import Dataset
from noderun.data.mechanics import of_system
from noderun.data.series import Records
from noderun.data.system import System

SUBSTEPS = 20  # of Heun's method between two points, which keeps its error far below the noise of the path


def stochastic_lorenz(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 1024,
    points: int = 41,
    span: float = 1.0,
    sigma: float = 0.15,
    noise: float = 0.01,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """Lorenz's system with additive noise ``sigma`` dW on each component, from y(0) ~ N(0, I), at equal times from 0
    (Li et al. 2020, section 7.2 and appendix 9.10.2): states in the system's own units, observed with ``noise``."""

    def field(y: Tensor) -> Tensor:
        x, y, z = y.unbind(-1)
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], dim=-1)

    def draw(count: int, generator: torch.Generator) -> Records:
        times = torch.linspace(0, span, points)
        start = torch.randn(count, 3, generator=generator, dtype=torch.float64)
        return noisy(with_additive_noise(field, sigma, start, times, generator), times, noise, generator)

    dataset = drawn("stochastic_lorenz", draw, examples, augment, task or "interpolate", **asked)
    return of_system(dataset, System(field, diffusion=lambda y: torch.full_like(y, sigma)))


def ou(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 1024,
    points: int = 41,
    span: float = 4.0,
    theta: float = 1.0,
    mu: float = 0.0,
    sigma: float = 0.5,
    noise: float = 0.05,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """The Ornstein-Uhlenbeck process dy = theta (mu - y) dt + sigma dW from y(0) ~ N(mu + 1, 0.2^2), by its exact
    transitions: y(t) has the mean mu + e^(-theta t) and the variance 0.04 e^(-2 theta t) +
    sigma^2 (1 - e^(-2 theta t)) / (2 theta)."""
    decay = math.exp(-theta * span / (points - 1)) if points > 1 else 1.0
    spread = sigma * math.sqrt((1 - decay**2) / (2 * theta))

    def draw(count: int, generator: torch.Generator) -> Records:
        y = mu + 1 + 0.2 * torch.randn(count, 1, generator=generator)
        rows = [y]
        for _ in range(points - 1):
            y = mu + decay * (y - mu) + spread * torch.randn(count, 1, generator=generator)
            rows.append(y)
        return noisy(torch.stack(rows, dim=1), torch.linspace(0, span, points), noise, generator)

    dataset = drawn("ou", draw, examples, augment, task or "interpolate", **asked)
    return of_system(dataset, System(lambda y: theta * (mu - y), diffusion=lambda y: torch.full_like(y, sigma)))


def gbm(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 1024,
    points: int = 41,
    span: float = 1.0,
    mu: float = 0.5,
    sigma: float = 0.5,
    noise: float = 0.01,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """Geometric Brownian motion dy = mu y dt + sigma y dW from y(0) = e^(0.1 Z), Z ~ N(0, 1), in closed form:
    log y(t) ~ N((mu - sigma^2 / 2) t, 0.01 + sigma^2 t)."""

    def draw(count: int, generator: torch.Generator) -> Records:
        times = torch.linspace(0, span, points)
        increments = torch.randn(count, points, generator=generator) * times.diff(prepend=times[:1]).sqrt()
        start = 0.1 * torch.randn(count, 1, generator=generator)
        logarithm = start + (mu - sigma**2 / 2) * times + sigma * increments.cumsum(1)
        return noisy(logarithm.exp().unsqueeze(-1), times, noise, generator)

    dataset = drawn("gbm", draw, examples, augment, task or "interpolate", **asked)
    return of_system(dataset, System(lambda y: mu * y, diffusion=lambda y: sigma * y))


def with_additive_noise(
    field: Callable[[Tensor], Tensor], sigma: float, start: Tensor, times: Tensor, generator: torch.Generator
) -> Tensor:
    """y [N, T, D] of dy = field(y) dt + sigma dW at rising times, ``start`` [N, D] at the first, by Heun's method."""
    y, rows = start.double(), [start.double()]
    for gap in times.double().diff().tolist():
        h = gap / SUBSTEPS
        for _ in range(SUBSTEPS):
            change = sigma * math.sqrt(h) * torch.randn(y.shape, generator=generator, dtype=y.dtype)
            slope = field(y)
            y = y + h / 2 * (slope + field(y + h * slope + change)) + change
        rows.append(y)
    return torch.stack(rows, dim=1).float()
