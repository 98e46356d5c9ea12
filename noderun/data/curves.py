"""Generated series: curves with noise, drawn by a fixed generator.

The draw does not follow the run's seed, so that runs differ by their nets alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noderun.data.dataset import Dataset
from noderun.data.points import require_none
from noderun.data.series import Records, series_dataset

Draw = Callable[[int, torch.Generator], Records]
SUBSTEPS = 20  # of a Runge-Kutta step between two points of a curve, which keeps its error below the noise by far


def spirals(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 1000,
    points: int = 100,
    noise: float = 0.1,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """Plane spirals, every second one clockwise (Chen et al. 2018, section 5.1); the class is the direction.

    A spiral is 500 points of three turns, as in the authors' code: r = 0.3 t out of the center, and r = 15 / z with
    z = 6 pi + 1 - t. A series is a window of 2 ``points`` of them, the first half of which is the history.
    """
    turns = torch.linspace(0, 6 * math.pi, 500)
    outward = 0.3 * turns * torch.stack([turns.cos(), turns.sin()]) + torch.tensor([[5.0], [0.0]])
    back = 6 * math.pi + 1 - turns
    inward = 15 / back * torch.stack([back.cos(), back.sin()]) - torch.tensor([[5.0], [0.0]])
    both = torch.stack([outward.T, inward.T])  # [2, 500, 2]

    def draw(count: int, generator: torch.Generator) -> Records:
        labels = torch.arange(count) % 2
        first = torch.randint(500 - 2 * points + 1, (count, 1), generator=generator)
        truth = both[labels.unsqueeze(1), first + torch.arange(2 * points)]
        return noisy(truth, turns[: 2 * points], noise, generator, labels=labels)

    return drawn("spirals", draw, examples, augment, task or "forecast", classes=2, **asked)


def sinusoids(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 1000,
    points: int = 100,
    noise: float = 0.1,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """x0 + sin(2 pi f t) with f from 0.5 to 1 and x0 ~ N(1, 0.1^2), at irregular times in [0, 5] that all series share
    (Rubanova et al. 2019, section 4.1, whose frequencies are the paper's); regress: the frequency."""
    times = 5 * torch.rand(points, generator=torch.Generator().manual_seed(2)).sort().values

    def draw(count: int, generator: torch.Generator) -> Records:
        frequency = 0.5 + 0.5 * torch.rand(count, 1, generator=generator)
        start = 1 + 0.1 * torch.randn(count, 1, generator=generator)
        truth = (start + torch.sin(2 * math.pi * frequency * times)).unsqueeze(-1)
        return noisy(truth, times, noise, generator, numbers=frequency)

    return drawn("sinusoids", draw, examples, augment, task or "interpolate", **asked)


def oscillators(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 10_000,
    points: int = 20,
    noise: float = 0.0,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """y' = [[-0.1, 1.3], [-1, -0.1]] y from y(0) ~ N(0, I) at random times of each series' own, up to an end between 2
    and 3: the data of diffrax's example of a latent ODE, whose times are rounded to 0.01 here."""
    omega = math.sqrt(1.3)

    def draw(count: int, generator: torch.Generator) -> Records:
        start = torch.randn(count, 2, 1, generator=generator)
        end = 2 + torch.rand(count, 1, generator=generator)
        times = (100 * end * torch.rand(count, points, generator=generator)).round().sort(1).values / 100
        cos, sin, decay = (omega * times).cos(), (omega * times).sin(), (-0.1 * times).exp()
        (x, y) = start.unbind(1)
        truth = torch.stack([decay * (x * cos + omega * y * sin), decay * (y * cos - x / omega * sin)], dim=-1)
        return noisy(truth, times, noise, generator)

    return drawn("oscillators", draw, examples, augment, task or "interpolate", **asked)


def damped_pendulum(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 500,
    points: int = 100,
    noise: float = 0.05,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """q'' = -sin q - c q' from rest at up to 2.5 rad, observed as (q, q') at random times in [0, 20]; regress: the
    damping c, from 0.05 to 0.5."""

    def draw(count: int, generator: torch.Generator) -> Records:
        damping = 0.05 + 0.45 * torch.rand(count, 1, generator=generator)
        angle = 2.5 * (2 * torch.rand(count, generator=generator) - 1)

        def field(y: Tensor) -> Tensor:
            return torch.stack([y[:, 1], -y[:, 0].sin() - damping[:, 0] * y[:, 1]], dim=1)

        times = shared_times(points, 20.0, generator)
        truth = solution(field, torch.stack([angle, torch.zeros(count)], dim=1), times)
        return noisy(truth, times, noise, generator, numbers=damping)

    return drawn("damped_pendulum", draw, examples, augment, task or "interpolate", **asked)


def lotka_volterra(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 500,
    points: int = 100,
    noise: float = 0.05,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """u' = a u - u v, v' = u v - b v from (u, v) in [0.5, 2]^2, at random times in [0, 15]; regress: a and b, each from
    0.5 to 1.5."""

    def draw(count: int, generator: torch.Generator) -> Records:
        rates = 0.5 + torch.rand(count, 2, generator=generator)

        def field(y: Tensor) -> Tensor:
            meetings = y.prod(1)
            return torch.stack([rates[:, 0] * y[:, 0] - meetings, meetings - rates[:, 1] * y[:, 1]], dim=1)

        times = shared_times(points, 15.0, generator)
        truth = solution(field, 0.5 + 1.5 * torch.rand(count, 2, generator=generator), times)
        return noisy(truth, times, noise, generator, numbers=rates)

    return drawn("lotka_volterra", draw, examples, augment, task or "forecast", **asked)


def lorenz(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 500,
    points: int = 100,
    noise: float = 0.1,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """Lorenz's system (sigma 10, rho 28, beta 8/3) on its attractor, at random times in [0, 2]."""

    def field(y: Tensor) -> Tensor:
        x, y, z = y.unbind(1)
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], dim=1)

    def draw(count: int, generator: torch.Generator) -> Records:
        start = torch.randn(count, 3, generator=generator) + torch.tensor([0.0, 0.0, 25.0])
        on_attractor = solution(field, start, torch.linspace(0, 10, 101))[:, -1]
        times = shared_times(points, 2.0, generator)
        return noisy(solution(field, on_attractor, times), times, noise, generator)

    return drawn("lorenz", draw, examples, augment, task or "forecast", **asked)


def shared_times(points: int, end: float, generator: torch.Generator) -> Tensor:
    """Random times [T] from 0 to ``end``, which all series of a split share."""
    return end * torch.rand(points, generator=generator).sort().values


def solution(field: Callable[[Tensor], Tensor], start: Tensor, times: Tensor) -> Tensor:
    """y [N, T, D] of y' = field(y) from y(0) = ``start`` [N, D], by SUBSTEPS classical Runge-Kutta steps per point."""
    y, rows = start.double(), []
    for gap in torch.diff(times.double(), prepend=torch.zeros(1, dtype=torch.float64)).tolist():
        h = gap / SUBSTEPS
        for _ in range(SUBSTEPS):
            k1 = field(y)
            k2 = field(y + h / 2 * k1)
            k3 = field(y + h / 2 * k2)
            k4 = field(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        rows.append(y)
    return torch.stack(rows, dim=1).float()


def noisy(truth: Tensor, times: Tensor, noise: float, generator: torch.Generator, **known: Tensor) -> Records:
    """Records of curves [N, T, D] at times [T] or [N, T] with normal noise of this standard deviation."""
    values = truth + noise * torch.randn(truth.shape, generator=generator)
    there = torch.ones(truth.shape, dtype=torch.bool)
    return Records(values, times.expand(truth.shape[:2]).contiguous(), there, truth=truth, **known)


def drawn(name: str, draw: Draw, examples: int, augment: bool, task: str, **asked: Any) -> Dataset:
    """A set whose test, a fifth as many series, is drawn apart."""
    require_none(name, augment)
    train, test = (
        draw(count, torch.Generator().manual_seed(seed)) for seed, count in enumerate((examples, max(examples // 5, 2)))
    )
    return series_dataset(name, train, test, task, **asked)
