"""The four energies of Rezende and Mohamed (2015, table 1): densities known up to a factor, with hard shapes.

The table leaves z1 free in U2 to U4, so that exp(-U) has no finite integral. Beyond |z1| = 4, the window of the paper's
figure, a quadratic term is added; within it the energies are the table's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.densities import EXAMPLES, TEST, TEST_SEED, TRAIN, fixed, fresh, normals
from noderun.data.points import require_none
from noderun.data.targets import Energy

WINDOW, SOFT = 4.0, 0.4  # half the width of the window; how softly it ends


def u1(z: Tensor) -> Tensor:
    """A ring of radius 2 with two modes."""
    ring = square((z.norm(dim=1) - 2) / 0.4)
    return ring - torch.logaddexp(-square((z[:, 0] - 2) / 0.6), -square((z[:, 0] + 2) / 0.6))


def u2(z: Tensor) -> Tensor:
    """A sine wave."""
    return square((z[:, 1] - w1(z)) / 0.4) + wall(z)


def u3(z: Tensor) -> Tensor:
    """A sine wave, from which a second one makes a detour."""
    height = z[:, 1] - w1(z)
    return wall(z) - torch.logaddexp(-square(height / 0.35), -square((height + w2(z)) / 0.35))


def u4(z: Tensor) -> Tensor:
    """A sine wave, from which a second one steps down."""
    height = z[:, 1] - w1(z)
    return wall(z) - torch.logaddexp(-square(height / 0.4), -square((height + w3(z)) / 0.35))


def square(x: Tensor) -> Tensor:
    return 0.5 * x.square()


def w1(z: Tensor) -> Tensor:
    return torch.sin(0.5 * math.pi * z[:, 0])


def w2(z: Tensor) -> Tensor:
    return 3 * torch.exp(-square((z[:, 0] - 1) / 0.6))


def w3(z: Tensor) -> Tensor:
    return 3 * torch.sigmoid((z[:, 0] - 1) / 0.3)


def wall(z: Tensor) -> Tensor:
    return square((z[:, 0].abs() - WINDOW).relu() / SOFT)


def across(width: float) -> float:
    """The integral of a normal's exponential with this standard deviation."""
    return math.sqrt(2 * math.pi) * width


ALONG = 2 * WINDOW + across(SOFT)  # the integral of exp(-wall) over z1
ENERGIES: dict[str, Energy] = {
    "u1": Energy(2, u1, 1.8775016),  # by quadrature; the others are products of one-dimensional integrals
    "u2": Energy(2, u2, math.log(across(0.4) * ALONG)),
    "u3": Energy(2, u3, math.log(2 * across(0.35) * ALONG)),
    "u4": Energy(2, u4, math.log((across(0.4) + across(0.35)) * ALONG)),
}


def starts(count: int, generator: torch.Generator) -> Batch:
    return Batch(normals(count, generator))


def energy(name: str) -> Callable[..., Dataset]:
    """The reader of a set: its inputs are points of the standard normal that a flow starts from."""

    def read(root: Path, augment: bool, *, examples: int = EXAMPLES) -> Dataset:
        require_none(name, augment)
        train, test = fixed(starts, examples, TRAIN), fixed(starts, TEST, TEST_SEED)
        return Dataset(name, (2,), ENERGIES[name], train, test, fresh(starts))

    return read
