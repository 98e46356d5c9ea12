"""Rows for figures of an identified system: its parameters with intervals, and its field beside the true one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from noderun.data import Batch
from noderun.data.system import System
from noderun.evaluation.depth import Plane, Rows, places
from noderun.models.observed import ObservedState
from noderun.models.physics import Physics
from noderun.models.timeline import channel_mask
from noderun.objectives.dynamics import Trajectory
from noderun.training.setup import Setup

LEVEL, QUANTILE = 0.8, 1.2815515655446004  # of a two-sided normal interval
STEP = 1e-4  # of the central differences, relative to 1 + |parameter|
MOST = 2000  # unknowns, whose covariance is one dense matrix
GRID = 15


def training_rows(setup: Setup) -> Batch:
    """All training series in one batch, in the set's own order."""
    batches = list(setup.batches("train", 0, 0))
    if len({batch.inputs.shape[1] for batch in batches}) > 1:
        raise ValueError("intervals of series of unequal lengths take all of them in one batch: see data.batch_size")
    parts = {name: torch.cat([batch.parts()[name] for batch in batches]) for name in batches[0].parts()}
    return Batch(**parts).rows(parts["index"].argsort())


@torch.no_grad()
def parameter_rows(setup: Setup) -> Rows:
    """Each unknown of a Physics model with its interval, and its true value where that is known.

    The covariance is that of Gauss and Newton, (J^T W J)^-1, with J the derivative of the residuals in the unknowns
    and W one over the variance of each channel's residuals. ValueError if there are more unknowns than observations.
    """
    if not isinstance(setup.model, Physics):
        raise ValueError(f"{type(setup.model).__name__} has no parameters with a meaning; model=physics has")
    if setup.model.known is not setup.model.dynamics:
        raise ValueError(
            "with model.correction the net can take up what a parameter does not: no interval has a meaning"
        )
    model, rows = copy.deepcopy(setup.model).double(), training_rows(setup)
    rows = rows.map(lambda part: part.double() if part.is_floating_point() else part)
    model.block.solve = precise(model.block.solve)
    spread = deviations(model, rows)
    system = setup.objective.system if isinstance(setup.objective, Trajectory) else System()
    truth = system.parameters
    found: Rows = []
    for name, parameter in model.unknowns().items():
        for place, (value, deviation) in enumerate(
            zip(parameter.flatten().tolist(), spread[name].flatten().tolist(), strict=True)
        ):
            logarithm = name.startswith("log_") or (name == "start" and model.noise == "lognormal")
            shown = name.removeprefix("log_")
            ends = [value - QUANTILE * deviation, value, value + QUANTILE * deviation]
            low, middle, high = torch.tensor(ends).exp().tolist() if logarithm else ends
            true = truth[shown].flatten() if shown in truth else None
            label = f"{shown} {place}" if parameter.dim() else shown
            published = system.published.get(label, (None, None, None))
            found.append(
                {"parameter": label, "name": shown, "low": low, "estimate": middle, "high": high}
                | {"true": None if true is None else true[place if len(true) > 1 else 0].item(), "level": LEVEL}
                | dict(zip(("published low", "published", "published high"), published, strict=True))
            )
    return found


def precise(solve: Any) -> Any:
    """The solve with a tolerance at which differences of two solutions are the derivative."""
    return solve if solve.dt is not None else type(solve)(**{**vars(solve), "rtol": 1e-9, "atol": 1e-9})


def deviations(model: Physics, rows: Batch) -> dict[str, Tensor]:
    """The standard deviation of each unknown, in its shape."""
    unknowns, count = model.unknowns(), len(rows)
    owned = model.owned()
    total = sum(p.numel() for p in unknowns.values())
    residual, there = weighted(model, rows), observed(rows)
    if total > min(MOST, int(there.sum())):
        raise ValueError(
            f"{total} unknowns and {int(there.sum())} observed values: intervals take more values, at most {MOST}"
        )
    columns = []
    for name, parameter in unknowns.items():
        flat = parameter.view(count, -1) if name in owned else parameter.view(1, -1)
        for k in range(flat.shape[1]):
            change = slope(model, rows, flat[:, k])  # [n, S, D]; of all series at once, if each has its own
            columns += (
                list(torch.diag_embed(change.flatten(1).T).permute(2, 1, 0).flatten(1))
                if name in owned
                else [change.flatten()]
            )
    jacobian = torch.stack(columns, dim=1)
    variance = (
        residual.square().flatten(0, 1).sum(0) / (there.flatten(0, 1).sum(0) - total / there.shape[2])
    ).expand_as(there)
    scale = torch.where(there, variance.rsqrt(), 0.0).flatten().unsqueeze(1)
    covariance = torch.linalg.pinv((jacobian * scale).T @ (jacobian * scale), hermitian=True)
    found, deviation, first = {}, covariance.diagonal().sqrt(), 0
    for name, parameter in unknowns.items():
        part = deviation[first : first + parameter.numel()]
        # the columns of owned unknowns run over the series first
        found[name] = part.view(-1, count).T.reshape(parameter.shape) if name in owned else part.view(parameter.shape)
        first += parameter.numel()
    return found


def observed(rows: Batch) -> Tensor:
    assert rows.targets is not None
    return channel_mask(rows.targets, rows.mask if rows.target_times is None else rows.target_mask)


def weighted(model: Physics, rows: Batch) -> Tensor:
    """The residuals [n, S, D], 0 where nothing was observed."""
    assert rows.targets is not None
    outputs = model(rows.inputs, rows.times, rows.mask, rows.target_times, rows.index)
    return model.residuals(outputs, rows.targets, observed(rows))


def slope(model: Physics, rows: Batch, unknown: Tensor) -> Tensor:
    """d residuals / d unknown [n, S, D] by central differences; ``unknown`` is a view of the parameter."""
    kept, step = unknown.clone(), STEP * (1 + unknown.abs())
    sides = []
    for sign in (1, -1):
        unknown.copy_(kept + sign * step)
        sides.append(weighted(model, rows))
    unknown.copy_(kept)
    return (sides[0] - sides[1]) / (2 * step.view(-1, 1, 1))


@torch.no_grad()
def phase_rows(setup: Setup, plane: Plane | None = None) -> Rows:
    """Observed and solved trajectories of the test in the plane of two channels (1 and 2), and the fields on a grid.

    The other channels of a grid's states are their means over the test.
    """
    model, system = setup.model, getattr(setup.objective, "system", None)
    if not isinstance(model, ObservedState) or model.size < 2:
        raise ValueError(f"a phase portrait is of a model whose observed state has two numbers; {type(model).__name__}")
    shown = places(plane or (1, 2), model.size)
    batch = next(iter(setup.batches("test", 0, 0))).rows(slice(8))
    assert batch.targets is not None
    outputs = model(batch.inputs, batch.times, batch.mask, batch.target_times, batch.index)
    axes = dict(zip(("x component", "y component"), (place + 1 for place in shown), strict=True))
    rows: Rows = []
    truth = model.in_units(batch.targets)
    for kind, values in (("observed", truth), ("solved", model.in_units(outputs))):
        for i, path in enumerate(values[..., shown].tolist()):
            rows += [{"kind": kind, "series": i, "x": x, "y": y} | axes for x, y in path]
    flat = truth.flatten(0, 1)
    low, high = flat.amin(0)[shown].tolist(), flat.amax(0)[shown].tolist()
    spans = [torch.linspace(a - 0.1 * (b - a), b + 0.1 * (b - a), GRID) for a, b in zip(low, high, strict=True)]
    grid = flat.mean(0).repeat(GRID * GRID, 1)
    grid[:, shown] = torch.cartesian_prod(*spans).to(grid)
    fields = {"learned": model.field(grid.new_zeros(()), grid)}
    if system is not None and system.field is not None:
        fields["true"] = system.field(grid)
    for kind, slopes in fields.items():
        rows += [
            {"kind": f"{kind} field", "x": x, "y": y, "u": u, "v": v}
            for (x, y), (u, v) in zip(grid[:, shown].tolist(), slopes[:, shown].tolist(), strict=True)
        ]
    return rows
