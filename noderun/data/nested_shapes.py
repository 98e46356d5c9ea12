"""Two nested outlines and what they are to become: a map of the plane is fitted, which may or may not fold."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.points import require_none
from noderun.data.targets import Values


def nested_shapes(root: Path, augment: bool = False, *, turn: float = 0.25, examples: int = 256) -> Dataset:
    """A circle in a square; the circle is to become a star that is turned by ``turn``, the square a clover around it.

    There is a homeomorphism of the plane that does this: it twists the space between the outlines. Training draws
    fresh points in place of the rows; the test has as many points, evenly spaced along each outline.
    """
    require_none("nested_shapes", augment)

    def moved(along: Tensor, outer: Tensor) -> Batch:
        """The points at the angles 2 pi ``along`` [N] of the outlines, and where they are to go."""
        angle = 2 * math.pi * along
        square = 1.2 / torch.maximum(angle.cos().abs(), angle.sin().abs())
        start = at(torch.where(outer, square, 0.5), angle)
        star, clover = 0.55 * (1 + 0.3 * (4 * angle).cos()), 1.5 * (1 + 0.25 * (3 * angle).cos())
        end = at(torch.where(outer, clover, star), angle + torch.where(outer, 0.0, 2 * math.pi * turn))
        return Batch(start, end)

    def fresh(batch: Batch, generator: torch.Generator | None) -> Batch:
        if generator is None:
            return batch
        device = batch.inputs.device
        along = torch.rand(len(batch), generator=generator, device=device)
        return replace(moved(along, torch.arange(len(batch), device=device) % 2 == 1), index=batch.index)

    inner = examples // 2
    along = torch.cat([torch.arange(count) / count for count in (inner, examples - inner)])
    rows = moved(along, torch.arange(examples) >= inner)
    return Dataset("nested_shapes", (2,), Values((2,)), rows, rows, fresh)


def at(radius: Tensor, angle: Tensor) -> Tensor:
    """Points [N, 2] in polar coordinates."""
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
