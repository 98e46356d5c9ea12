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
