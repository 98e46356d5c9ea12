"""Densities of the plane, in the scale of FFJORD (Grathwohl et al. 2019), whose points are drawn as they are needed.

Training sees fresh points in every batch, the test 20,000 fixed ones, so that the standard error of a mean of
-log p(x) is below 0.01 nats. All points are drawn on the device of their batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset, Prepare
from noderun.data.files import DataError
from noderun.data.points import require_none
from noderun.data.targets import Density

Draw = Callable[[int, torch.Generator], Batch]  # (count, generator) -> points and their classes, on its device
EXAMPLES, TEST = 51_200, 20_000  # of an epoch: a hundred batches of 512
TRAIN, TEST_SEED, SOURCE_SEED = 0, 1, 2  # of the fixed points


def eight_gaussians(count: int, generator: torch.Generator) -> Batch:
    """Eight normals of standard deviation 0.5 on a circle of radius 4, all divided by 1.414."""
    which = integers(8, count, generator)
    return Batch((4 * on_circle(math.pi / 4 * which) + 0.5 * normals(count, generator)) / 1.414, which)


def checkerboard(count: int, generator: torch.Generator) -> Batch:
    """Uniform on the eight black squares of side 2 of a board of side 8."""
    x, y = uniforms(2, count, generator)
    x = 4 * x - 2
    column, lower = x.floor().long(), integers(2, count, generator)
    y = y - 2 * lower + column.remainder(2)
    return Batch(2 * torch.stack([x, y], 1), 2 * (column + 2) + lower)


def moons(count: int, generator: torch.Generator, noise: float = 0.1) -> Batch:
    """Two half circles of radius 1 that interleave, with noise; times 2 and moved to the middle."""
    angle = math.pi * uniforms(1, count, generator)[0]
    which = integers(2, count, generator)
    upper = 2 * which - 1
    curve = torch.stack([upper * (2 * angle.cos() - 1), upper * (2 * angle.sin() - 0.5) + 0.3], 1)
    return Batch(curve + 2 * noise * normals(count, generator), which)


def circles(count: int, generator: torch.Generator, noise: float = 0.08, scale: float = 3.0) -> Batch:
    """Circles of radius 0.5 and 1, with noise, times ``scale``."""
    which = integers(2, count, generator)
    curve = around(0.5 + 0.5 * which, count, generator)
    return Batch(scale * (curve + noise * normals(count, generator)), which)


def rings(count: int, generator: torch.Generator) -> Batch:
    """Four circles of radius 0.75 to 3, with noise of standard deviation 0.08."""
    which = integers(4, count, generator)
    return Batch(around(0.75 * (1 + which), count, generator) + 0.08 * normals(count, generator), which)


def two_spirals(count: int, generator: torch.Generator) -> Batch:
    """Two arms of an Archimedean spiral of one and a half turns; the noise is uniform, then normal."""
    turn, *box = uniforms(3, count, generator)
    angle = 3 * math.pi * turn.sqrt()
    arm = angle[:, None] * torch.stack([-angle.cos(), angle.sin()], 1) + 0.5 * torch.stack(box, 1)
    which = integers(2, count, generator)
    sign = 2 * which - 1
    return Batch(sign[:, None] * arm / 3 + 0.1 * normals(count, generator), which)


def swissroll(count: int, generator: torch.Generator) -> Batch:
    """A spiral of one and a half turns, from angle 1.5 pi on, with noise of standard deviation 1, divided by 5."""
    angle = 1.5 * math.pi * (1 + 2 * uniforms(1, count, generator)[0])
    return Batch((angle[:, None] * on_circle(angle) + normals(count, generator)) / 5)


def pinwheel(count: int, generator: torch.Generator) -> Batch:
    """Five normals, long along the radius, that turn by exp(x) / 4, x the coordinate along it (Johnson et al. 2016)."""
    radial, tangential = normals(count, generator).T
    along, across = 1 + 0.3 * radial, 0.1 * tangential
    which = integers(5, count, generator)
    angle = 0.4 * math.pi * which + 0.25 * along.exp()
    cos, sin = angle.cos(), angle.sin()
    return Batch(2 * torch.stack([along * cos + across * sin, across * cos - along * sin], 1), which)


def uniforms(rows: int, count: int, generator: torch.Generator) -> Tensor:
    """[rows, count] between 0 and 1."""
    return torch.rand(rows, count, generator=generator, device=generator.device)


def normals(count: int, generator: torch.Generator) -> Tensor:
    """Standard normal [count, 2]."""
    return torch.randn(count, 2, generator=generator, device=generator.device)


def integers(below: int, count: int, generator: torch.Generator) -> Tensor:
    """[count] from 0 to below - 1, each as probable."""
    return torch.randint(below, (count,), generator=generator, device=generator.device)


def on_circle(angle: Tensor) -> Tensor:
    """The point [B, 2] of the unit circle at each angle [B]."""
    return torch.stack([angle.cos(), angle.sin()], 1)


def around(radius: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """A point [count, 2] at each radius [count], in any direction."""
    return radius[:, None] * on_circle(2 * math.pi * uniforms(1, count, generator)[0])


POINTS: dict[str, Callable[..., Batch]] = {
    "8gaussians": eight_gaussians,
    "checkerboard": checkerboard,
    "moons": moons,
    "circles": circles,
    "cnf_circles": partial(circles, noise=0.06, scale=1.0),  # those of torchdiffeq's example cnf.py
    "rings": rings,
    "2spirals": two_spirals,
    "swissroll": swissroll,
    "pinwheel": pinwheel,
}

# How many parts of equal probability each is made of; the swiss roll is one piece.
CLASSES = {
    "8gaussians": 8,
    "checkerboard": 8,
    "moons": 2,
    "circles": 2,
    "cnf_circles": 2,
    "rings": 4,
    "2spirals": 2,
    "pinwheel": 5,
}

# In nats, of the defaults; log 32 for the checkerboard, the others by quadrature.
ENTROPIES = {
    "8gaussians": 2.832,
    "checkerboard": math.log(32),
    "moons": 2.394,
    "circles": 3.268,
    "cnf_circles": 0.788,
    "rings": 2.623,
    "2spirals": 2.645,
    "swissroll": 2.67,
    "pinwheel": 2.317,
}


def density(name: str) -> Callable[..., Dataset]:
    """The reader of a set: an epoch is ``examples`` fresh points; ``noise`` is that of moons or circles.

    With ``classes`` a point's target is the part that it was drawn from.
    """

    def read(
        root: Path,
        augment: bool,
        *,
        examples: int | None = EXAMPLES,
        noise: float | None = None,
        classes: bool = False,
    ) -> Dataset:
        require_none(name, augment)
        labeled = POINTS[name] if noise is None else partial(POINTS[name], noise=noise)
        draw = labeled if classes else without_classes(labeled)
        entropy = ENTROPIES[name] if noise is None and not classes else None  # not that of each class
        target = Density(2, entropy=entropy, classes=CLASSES[name] if classes else None)
        train, test = fixed(draw, examples or EXAMPLES, TRAIN), fixed(draw, TEST, TEST_SEED)
        return Dataset(name, (2,), target, train, test, fresh(draw))

    return read


def without_classes(draw: Draw) -> Draw:
    return lambda count, generator: replace(draw(count, generator), targets=None)


def fixed(draw: Draw, count: int, seed: int) -> Batch:
    return draw(count, torch.Generator().manual_seed(seed))


def fresh(draw: Draw) -> Prepare:
    """Training draws new points in place of its rows."""

    def prepare(batch: Batch, generator: torch.Generator | None) -> Batch:
        return batch if generator is None else replace(draw(len(batch), generator), index=batch.index)

    return prepare


def with_source(dataset: Dataset, name: str) -> Dataset:
    """The set whose batches carry points of another one, ``Batch.source``, drawn apart: where a flow to it begins."""
    if not (isinstance(dataset.target, Density) and tuple(dataset.shape) == (2,)):
        raise DataError(
            f"data.source={name} is of the plane; {dataset.name} asks for something else than a density there"
        )
    draw = POINTS[name]

    def prepare(batch: Batch, generator: torch.Generator | None) -> Batch:
        batch = dataset.prepare(batch, generator)
        return batch if generator is None else replace(batch, source=draw(len(batch), generator).inputs)

    test = replace(dataset.test, source=fixed(draw, len(dataset.test), SOURCE_SEED).inputs)
    return replace(dataset, target=replace(dataset.target, source=name), test=test, prepare=prepare)
