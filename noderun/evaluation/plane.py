"""Rows for the figure of a map of the plane: a grid before and after it, and whether the map folds."""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.evaluation.depth import Rows, rounded
from noderun.training.setup import Setup

LINES, POINTS, STRIDE = 31, 121, 3  # lines of one family of the grid; points along each line
MARGIN = 0.15  # of the inputs' span


def grid_rows(setup: Setup) -> Rows:
    """Lines of a grid over the test inputs, their images and det J along them; test inputs, outputs and targets.

    Raises ValueError if the model is not a map of the plane.
    """
    batch = next(setup.batches("test", 0, 0))
    if batch.targets is None or not batch.inputs.shape[1:] == batch.targets.shape[1:] == (2,):
        raise ValueError("such a figure is of a map of the plane, whose inputs and targets are points in it")
    with torch.no_grad():
        moved = setup.model(batch.inputs)
    places = zip(rounded(batch.inputs), rounded(moved), rounded(batch.targets), strict=True)
    tested = [
        {"kind": "test", "x": x, "y": y, "u": u, "v": v, "wanted u": a, "wanted v": b}
        for (x, y), (u, v), (a, b) in places
    ]
    lines = grid_lines(batch.inputs)
    images, dets = with_determinant(setup.model, lines.flatten(0, 1))
    met = [n for family in images.unflatten(0, (2, LINES, POINTS)) for n in crossings(family)]
    grid = [
        {
            "kind": "grid",
            "line": i // POINTS,
            "x": x,
            "y": y,
            "u": u,
            "v": v,
            "det J": det,
            "crossings": met[i // POINTS],
        }
        for i, ((x, y), (u, v), det) in enumerate(
            zip(rounded(lines.flatten(0, 1)), rounded(images), dets.tolist(), strict=True)
        )
    ]
    return tested + grid


def grid_lines(points: Tensor) -> Tensor:
    """[2 LINES, POINTS, 2]: lines along x, then lines along y, over the span of the points and a margin."""
    low, high = points.min(0).values, points.max(0).values
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    along = torch.linspace(0, 1, POINTS).to(points)
    across = torch.linspace(0, 1, LINES).to(points)
    horizontal = torch.stack(torch.meshgrid(across, along, indexing="ij"), dim=-1).flip(-1)
    return low + (high - low) * torch.cat([horizontal, horizontal.flip(-1)])


def crossings(lines: Tensor) -> list[int]:
    """How often each of the polygons [L, P, 2] is crossed by itself and the others.

    Only every ``STRIDE``-th point counts, because all pairs of segments are tried.
    """
    ends = lines[:, ::STRIDE].double()
    a, b = ends[:, None, :-1, None], ends[:, None, 1:, None]  # [L, 1, S, 1, 2]
    c, d = ends[None, :, None, :-1], ends[None, :, None, 1:]  # [1, L, 1, S, 2]
    crossed = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return crossed.sum((1, 2, 3)).tolist()


def side(a: Tensor, b: Tensor, p: Tensor) -> Tensor:
    """Twice the signed area of the triangle (a, b, p): its sign says on which side of ab the point p lies."""
    return (b - a)[..., 0] * (p - a)[..., 1] - (b - a)[..., 1] * (p - a)[..., 0]


def with_determinant(model: torch.nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Images [N, 2] of the points and the determinant [N] of the map's Jacobian there."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        images = model(points)
        du, dv = (torch.autograd.grad(images[:, i].sum(), points, retain_graph=i == 0)[0] for i in range(2))
    return images.detach(), du[:, 0] * dv[:, 1] - du[:, 1] * dv[:, 0]
