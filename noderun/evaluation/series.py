"""Rows for figures of models of series: what was given, what was asked, and what the model says between and beyond."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from noderun.data import Batch
from noderun.models.latent import LatentCurve, LatentSeries
from noderun.models.latent_ode import LatentODE
from noderun.models.latent_sde import LatentSDE
from noderun.models.timeline import channel_mask
from noderun.objectives.diffusion import diffusions
from noderun.training.setup import Setup

Rows = list[dict[str, Any]]
EXAMPLES, CHANNELS, TIMES, DRAWS, BEYOND = 4, 3, 201, 50, 0.5  # BEYOND: of the span, on both sides of it
CURVES, BINS, UNITS = 40, 20, 8


def first_series(setup: Setup, count: int) -> Batch:
    """The first test examples; ValueError if they are no series."""
    batch = next(setup.batches("test", 0, 0))
    if batch.times is None:
        raise ValueError("this figure is of series, and the data have no times")
    return batch.rows(slice(count))


@torch.no_grad()
def series_rows(setup: Setup) -> Rows:
    """Given and asked values of a few test series, and the model's path with its middle 80 % of posterior draws."""
    setup.model.eval()
    batch = first_series(setup, EXAMPLES)
    assert batch.times is not None
    rows = point_rows("given", batch.inputs, batch.times, batch.mask)
    if batch.target_times is not None and batch.targets is not None:
        rows += point_rows("asked", batch.targets, batch.target_times, batch.target_mask)
    ends = [part for part in (batch.times, batch.target_times) if part is not None]
    start, end = min(float(part.min()) for part in ends), max(float(part.max()) for part in ends)
    margin = BEYOND * (end - start)
    first = 0.0 if isinstance(setup.model, LatentSDE) else start - margin  # where the paths of an SDE begin
    grid = torch.linspace(first, end + margin, TIMES, device=batch.times.device)
    return rows + path_rows(setup, batch, grid)


def path_rows(setup: Setup, batch: Batch, grid: Tensor) -> Rows:
    model, times = setup.model, grid.expand(len(batch), -1)
    assert batch.times is not None
    low = high = None
    if isinstance(model, LatentSeries):
        posterior = model.infer(batch.inputs, batch.times, batch.mask)
        generator = torch.Generator(times.device).manual_seed(0)
        epsilon = torch.randn(DRAWS, *posterior.mean.shape, generator=generator, device=times.device)
        decoded = model.paths(posterior, torch.cat([epsilon, torch.zeros_like(epsilon[:1])]), times, batch.index)
        middle = model.point(decoded)
        low, high = decoded.mean[:DRAWS].quantile(0.1, 0), decoded.mean[:DRAWS].quantile(0.9, 0)
    elif batch.target_times is not None:
        middle = model(batch.inputs, batch.times, batch.mask, times)
    else:
        return []
    rows = []
    for i in range(len(batch)):
        for channel in range(min(CHANNELS, middle.shape[2])):
            for k, time in enumerate(grid.tolist()):
                row = {"example": i, "channel": channel, "kind": "path", "time": time}
                row |= {"value": middle[i, k, channel].item()}
                row |= {"low": None if low is None else low[i, k, channel].item()}
                rows.append(row | {"high": None if high is None else high[i, k, channel].item()})
    return rows


def point_rows(kind: str, values: Tensor, times: Tensor, mask: Tensor | None) -> Rows:
    seen = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.reshape(*mask.shape, 1)[..., 0]
    seen = seen if seen.dim() == 3 else seen.unsqueeze(-1).expand_as(values)
    return [
        {"example": i, "channel": c, "kind": kind, "time": times[i, k].item(), "value": values[i, k, c].item()}
        for i, k, c in seen[:, :, :CHANNELS].nonzero().tolist()
    ]


@torch.no_grad()
def hidden_rows(setup: Setup) -> Rows:
    """The first units of the state that answers are read from, for a few test series, and when each was observed."""
    setup.model.eval()
    batch = first_series(setup, EXAMPLES)
    assert batch.times is not None
    last = batch.times if batch.target_times is None else batch.target_times
    # an answer at a time uses what was observed before it, so the grid begins after the first observation
    begin = float(batch.times[:, 0].max())
    grid = torch.linspace(begin, float(last.max()), 1 + TIMES, device=batch.times.device)[1:]
    hidden = hidden_states(setup.model, batch, grid)
    kept = channel_mask(batch.inputs, batch.mask).any(-1)
    rows: Rows = [
        {"example": i, "unit": None, "time": time, "value": None}
        for i, times in enumerate(batch.times)
        for time in times[kept[i]].tolist()
    ]
    return rows + [
        {"example": i, "unit": unit, "time": time, "value": value}
        for i, states in enumerate(hidden[..., :UNITS].tolist())
        for time, values in zip(grid.tolist(), states, strict=True)
        for unit, value in enumerate(values)
    ]


def hidden_states(model: nn.Module, batch: Batch, grid: Tensor) -> Tensor:
    """[B, G, H] at the times of the grid, which the model is asked for."""
    assert batch.times is not None
    times = grid.expand(len(batch), -1)
    if isinstance(model, LatentCurve):
        mean, _ = model.encode(batch.inputs, batch.times, batch.mask)
        return model.decode(mean.unsqueeze(0), times).latent[0]
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Module) or isinstance(model, LatentSeries):
        raise ValueError(f"{type(model).__name__} has no hidden state that answers are read from at each time")
    seen: list[Tensor] = []
    with head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        model(batch.inputs, batch.times, batch.mask, times)
    return seen[0]


@torch.no_grad()
def latent_rows(setup: Setup) -> Rows:
    """z(t) of test series by the posterior's mean, in the plane of its first principal components."""
    from noderun.evaluation.depth import in_a_plane

    setup.model.eval()
    model = setup.model
    if not isinstance(model, LatentCurve):
        raise ValueError(f"{type(model).__name__} has no latent path")
    batch = first_series(setup, CURVES)
    assert batch.times is not None
    mean, _ = model.encode(batch.inputs, batch.times, batch.mask)
    last = batch.times if batch.target_times is None else batch.target_times
    grid = torch.linspace(0, float(last.max()), TIMES, device=mean.device)
    latent = model.decode(mean.unsqueeze(0), grid.expand(len(batch), -1)).latent[0].transpose(0, 1)
    plane, share = in_a_plane(latent)
    targets = batch.targets
    labels = targets.tolist() if targets is not None and targets.dtype == torch.int64 else [None] * len(batch)
    return [
        {"example": i, "class": labels[i], "time": time, "x": x, "y": y, "variance share": share}
        for time, points in zip(grid.tolist(), plane.tolist(), strict=True)
        for i, (x, y) in enumerate(points)
    ]


@torch.no_grad()
def rate_rows(setup: Setup) -> Rows:
    """The rate of the first channel's observations: the mean over test series, the true one, and what the test has."""
    setup.model.eval()
    model, series = setup.model, getattr(setup.objective, "series", None)
    if not isinstance(model, LatentODE) or model.log_rate is None or series is None or series.system.rate is None:
        raise ValueError(
            "a learned and a true rate are those of model=latent_ode model.poisson=true data=point_process"
        )
    batch = next(setup.batches("test", 0, 0))
    assert batch.target_times is not None and batch.target_mask is not None
    mean, _ = model.encode(*(batch.rows(slice(CURVES)).parts()[name] for name in ("inputs", "times", "mask")))
    grid = torch.linspace(0, float(batch.target_times.max()), TIMES, device=mean.device)
    log_rate = model.decode(mean.unsqueeze(0), grid.expand(len(mean), -1)).log_rate
    assert log_rate is not None
    learned, true = log_rate[0, ..., 0].exp().mean(0), series.system.rate(grid)
    seen = batch.target_times[batch.target_mask[..., 0]].cpu()
    counts, edges = torch.histogram(seen, bins=BINS, range=(0.0, float(grid[-1])))
    unit = len(batch) * float(edges[1] - edges[0])
    curves = [("learned", grid, learned), ("true", grid, true)]
    points = zip((0.5 * (edges[1:] + edges[:-1])).tolist(), counts.tolist(), strict=True)
    return [
        {"kind": kind, "time": t, "rate": value}
        for kind, times, values in curves
        for t, value in zip(times.tolist(), values.tolist(), strict=True)
    ] + [{"kind": "observed", "time": t, "rate": n / unit, "standard error": n**0.5 / unit} for t, n in points]


@torch.no_grad()
def prior_rows(setup: Setup) -> Rows:
    """The first test series, and as many draws from the prior of a latent equation, at the times of the first."""
    setup.model.eval()
    if not isinstance(setup.model, LatentSeries):
        raise ValueError(f"{type(setup.model).__name__} has no prior to draw series from")
    batch = first_series(setup, CURVES)
    assert batch.times is not None
    values, times, mask = batch.inputs, batch.times, batch.mask
    if batch.target_times is not None and batch.targets is not None:
        values, times, mask = batch.targets, batch.target_times, batch.target_mask
    ts = times[0].unique()
    drawn = setup.model.prior_paths(len(batch), ts, seed=0)
    return point_rows("data", values, times, mask) + point_rows("prior", drawn, ts.expand(len(drawn), -1), None)


@torch.no_grad()
def diffusion_rows(setup: Setup) -> Rows:
    """Learned and true diffusion of each channel over its value, along posterior paths of the first test series."""
    setup.model.eval()
    series = getattr(setup.objective, "series", None)
    if not isinstance(setup.model, LatentSDE) or series is None or series.system.diffusion is None:
        raise ValueError("learned and true diffusion are those of model=latent_sde and data whose diffusion is known")
    found = diffusions(setup.model, first_series(setup, CURVES), series)
    states, learned, true = (part.flatten(0, 1).T.tolist() for part in found)
    return [
        {"channel": channel, "value": x, "learned": a, "true": b}
        for channel, points in enumerate(zip(states, learned, true, strict=True))
        for x, a, b in zip(*points, strict=True)
    ]
