"""Rows for figures of flows in a plane: the learned density, the velocity field, and the way from normal to data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from noderun.evaluation.depth import Rows, rounded
from noderun.evaluation.samples import draw, first_test_batches
from noderun.models import Flow, FlowMatching
from noderun.models.continuous import ContinuousFlow, FlowBlock
from noderun.models.flow import log_normal
from noderun.training.setup import Setup

POINTS = 2000  # of the data, and as many samples
FINE, COARSE, ARROWS = 101, 49, 19  # places along one side of a grid: of a density, of one per frame, of arrows
FRAMES, PARTICLES = 13, 300
NORMAL = 3.0  # the standard normal lies within so many deviations
MARGIN = 0.15


def planar_flow(setup: Setup) -> Flow:
    """The model; ValueError if it is not a flow in a plane."""
    if not isinstance(setup.model, Flow) or setup.model.shape != (2,):
        raise ValueError("such a figure is of a normalizing flow of points in a plane")
    return setup.model


def continuous(setup: Setup) -> ContinuousFlow:
    flow = planar_flow(setup)
    if not isinstance(flow, ContinuousFlow):
        raise ValueError(f"{type(flow).__name__} has no velocity: such a figure is of continuous flows")
    return flow


@torch.no_grad()
def density_rows(setup: Setup) -> Rows:
    """Test points, p(x) on a grid, and samples."""
    flow = planar_flow(setup)
    batch = first_test_batches(setup, POINTS)
    if batch.source is not None:
        raise ValueError("a flow from data to data has no density: figures=transport shows what it moves")
    data = batch.inputs[:POINTS]
    grid = grid_over(data, FINE)
    density = torch.cat([flow.log_prob(x) for x in grid.split(POINTS)]).exp()
    clouds = {"data": data, "samples": draw(setup, POINTS, 0)}
    points = [{"kind": kind, "x": x, "y": y} for kind, cloud in clouds.items() for x, y in rounded(cloud)]
    return points + with_density(grid, density)


@torch.no_grad()
def velocity_rows(setup: Setup) -> Rows:
    """f(t, y) on a grid at four times of each block, from the normal to the data, in the flow's units."""
    flow = continuous(setup)
    if isinstance(flow, FlowMatching) and flow.classes is not None:
        raise ValueError("a flow given the class has a velocity for each class: figures=transport shows what they move")
    grid = grid_over(flow_units(setup), ARROWS)
    rows: Rows = []
    for number, block in generating(flow):
        for t in torch.linspace(0, end_of(block), 4).tolist():
            arrows = block.dynamics.velocity(grid.new_tensor(t), grid)
            rows += [
                {"block": number, "t": round(t, 5), "x": x, "y": y, "u": u, "v": v}
                for (x, y), (u, v) in zip(rounded(grid), rounded(arrows), strict=True)
            ]
    return rows


@torch.no_grad()
def transport_rows(setup: Setup) -> Rows:
    """Particles from the normal to the data, and the density that they have at each time, in the flow's units.

    A flow from data to data, or given the class, has particles alone; they have the classes of test points.
    """
    flow = continuous(setup)
    grid = grid_over(flow_units(setup), COARSE)
    generator = torch.Generator(setup.device).manual_seed(0)
    batch = first_test_batches(setup, PARTICLES).rows(slice(PARTICLES))
    if batch.source is None:
        y = torch.randn(len(batch), 2, generator=generator, device=setup.device)
    else:
        y = flow.transform(batch.source)[0]
    condition = flow.condition(batch.targets) if isinstance(flow, FlowMatching) else ()
    has_density = batch.source is None and not condition
    rows: Rows = []
    for number, block in generating(flow):
        times = torch.linspace(0, end_of(block), FRAMES).tolist()
        given = block.in_testing() | {"norm": "rms", "args": condition}
        states = block.solve(block.dynamics.velocity, y, times, **given).ys
        for t, state in zip(times, states, strict=True):
            at = {"block": number, "t": round(t, 5)}
            rows += [at | {"kind": "particle", "x": a, "y": b} for a, b in rounded(state)]
            if has_density:
                rows += [at | row for row in with_density(grid, density_at(flow, block, t, grid))]
        y = states[-1]
        y = up_to_next_block(flow, block, y)
    return rows


def up_to_next_block(flow: ContinuousFlow, block: FlowBlock, y: Tensor) -> Tensor:
    """y after what stands between this block and the next one on the way to the data."""
    parts: list[Any] = list(flow.chain)
    for part in reversed(parts[: parts.index(block)]):
        if isinstance(part, FlowBlock):
            break
        y = part.inverse(y)
    return y


def density_at(flow: ContinuousFlow, block: FlowBlock, t: float, y: Tensor) -> Tensor:
    """The density [B] of the state of a block at time t: what is left of the way to the normal says it."""
    log_det = y.new_zeros(len(y))
    if t > 0:
        y, log_det = block.carried(y, [t, 0.0], None)
    parts = list(flow.chain)
    for part in parts[parts.index(block) + 1 :]:
        y, change = part(y)
        log_det = log_det + change
    return (log_normal(y) + log_det).exp()


def generating(flow: ContinuousFlow) -> Iterator[tuple[int, FlowBlock]]:
    """The blocks in the order in which samples pass through them, numbered from 1."""
    blocks = [part for part in reversed(flow.chain) if isinstance(part, FlowBlock)]
    return enumerate(blocks, start=1)


def end_of(block: FlowBlock) -> float:
    return float(block.times()[1])


def flow_units(setup: Setup) -> Tensor:
    """Test points as the flow sees them, and points that span the normal."""
    data = planar_flow(setup).transform(first_test_batches(setup, POINTS).inputs[:POINTS])[0]
    return torch.cat([data, data.new_tensor([[-NORMAL, -NORMAL], [NORMAL, NORMAL]])])


def grid_over(points: Tensor, side: int) -> Tensor:
    """[side^2, 2] over the span of the points and a margin; x varies slowest."""
    low, high = points.min(0).values, points.max(0).values
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    xs, ys = (torch.linspace(float(a), float(b), side) for a, b in zip(low, high, strict=True))
    return torch.cartesian_prod(xs, ys).to(points)


def with_density(grid: Tensor, density: Tensor) -> Rows:
    places = zip(rounded(grid), rounded(density), strict=True)
    return [{"kind": "density", "x": x, "y": y, "density": p} for (x, y), p in places]
