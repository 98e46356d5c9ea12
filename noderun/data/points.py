"""Points in space with a class each, drawn by a fixed generator: toys on which flows can be told apart.

The draw does not follow the run's seed, so that runs differ by their nets alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataError
from noderun.data.targets import Classes, Values

Draw = Callable[[int, torch.Generator], Batch]  # (examples, generator) -> a Batch of points [N, D] and classes [N]

EXAMPLES = 2000


def spheres(root: Path, augment: bool = False, *, dimension: int = 2, examples: int = 3000) -> Dataset:
    """A ball of radius 0.5 inside a shell of radii 1 to 1.5, one to two (Dupont et al. 2019, section 4)."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        inner = count // 3
        balls = ball(inner, dimension, 0.0, 0.5, generator), ball(count - inner, dimension, 1.0, 1.5, generator)
        return Batch(torch.cat(balls), classes(inner, count - inner))

    return classified("spheres", draw, examples, augment)


def sines(root: Path, augment: bool = False, *, shift: float = 1.4, examples: int = 2000) -> Dataset:
    """Two sine curves, one ``shift`` above the other (Dupont et al. 2019, appendix)."""

    def draw(count: int, generator: torch.Generator) -> Batch:
        lower = count // 2
        labels = classes(lower, count - lower)
        x = 2 * torch.rand(count, generator=generator) - 1
        y = torch.sin(math.pi * x) + shift * (labels - 0.5)
        return Batch(torch.stack([x, y], dim=1), labels)

    return classified("sines", draw, examples, augment)


def moons(root: Path, augment: bool = False, *, noise: float | None = None, examples: int | None = None) -> Dataset:
    """Two interleaved half circles of radius 1."""
    sigma = 0.1 if noise is None else noise

    def draw(count: int, generator: torch.Generator) -> Batch:
        upper = count // 2
        labels = classes(upper, count - upper)
        angle = math.pi * torch.rand(count, generator=generator)
        curve = torch.stack([angle.cos(), angle.sin()], dim=1)
        lower = torch.tensor([1.0, 0.5]) - curve  # the upper one turned by 180 degrees, and moved
        points = torch.where(labels[:, None] == 0, curve, lower)
        return Batch(points + sigma * torch.randn(count, 2, generator=generator), labels)

    return classified("moons", draw, examples or EXAMPLES, augment)


def circles(root: Path, augment: bool = False, *, noise: float | None = None, examples: int | None = None) -> Dataset:
    """A circle of radius 0.5 inside one of radius 1."""
    sigma = 0.05 if noise is None else noise

    def draw(count: int, generator: torch.Generator) -> Batch:
        inner = count // 2
        labels = classes(inner, count - inner)
        angle = 2 * math.pi * torch.rand(count, generator=generator)
        radius = 0.5 + 0.5 * labels
        points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
        return Batch(points + sigma * torch.randn(count, 2, generator=generator), labels)

    return classified("circles", draw, examples or EXAMPLES, augment)


def crossing_1d(root: Path, augment: bool = False, *, examples: int = 256) -> Dataset:
    """x around -1 is to become 1 and x around 1 is to become -1: on a line the two have to pass through each other.

    Two states of one ODE never meet, so y(t1) is a rising function of x; the best one for falling targets is their
    mean, at a squared error that is their variance: 1 if they are balanced. So is every batch here: training draws
    fresh points in place of the rows.
    """
    require_none("crossing_1d", augment)

    def pairs(x: Tensor) -> Batch:
        """x in (0.5, 1.5) [N, 1], every second one moved to the other side."""
        sign = torch.ones_like(x)
        sign[::2] = -1
        return Batch(sign * x, -sign)

    def fresh(batch: Batch, generator: torch.Generator | None) -> Batch:
        rows = batch.inputs
        if generator is None:
            return batch
        return replace(pairs(0.5 + torch.rand(rows.shape, generator=generator, device=rows.device)), index=batch.index)

    rows = pairs(0.5 + (torch.arange(examples).unsqueeze(1) + 0.5) / examples)
    return Dataset("crossing_1d", (1,), Values((1,)), rows, rows, fresh)


def ball(count: int, dimension: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Points [count, dimension] of any direction with radii from low to high; uniform in the ball if low is 0."""
    direction = torch.nn.functional.normalize(torch.randn(count, dimension, generator=generator))
    radius = torch.rand(count, 1, generator=generator) ** (1 / dimension)
    return (low + (high - low) * radius) * direction


def classes(zeros: int, ones: int) -> Tensor:
    return torch.cat([torch.zeros(zeros), torch.ones(ones)]).long()


def classified(name: str, draw: Draw, examples: int, augment: bool) -> Dataset:
    """Two classes, with as many points again, drawn apart, for the test."""
    require_none(name, augment)
    train, test = (draw(examples, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    return Dataset(name, tuple(train.inputs.shape[1:]), Classes(2), train, test)


def require_none(name: str, augment: bool) -> None:
    if augment:
        raise DataError(f"data.augment is for images; {name} is made of points")
