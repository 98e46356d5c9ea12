"""The diffusion that a latent equation has learned beside the true one, both of the values in the units of the data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from noderun.data import Batch, Series
from noderun.models import LatentSeries
from noderun.record.metric import Metric

DIFFUSION_RATIO = Metric("diffusion_ratio", "diffusion, learned / true", ".2f", better=None)


def diffusions(model: LatentSeries, batch: Batch, series: Series) -> tuple[Tensor, Tensor, Tensor]:
    """States, learned and true diffusion [B, S, D] along one posterior path of each series, at the observed times."""
    assert batch.times is not None and series.system.diffusion is not None
    posterior = model.infer(batch.inputs, batch.times, batch.mask)
    decoded = model.paths(posterior, torch.zeros_like(posterior.mean).unsqueeze(0), batch.times, batch.index)
    mean, scale = (decoded.mean.new_tensor(part) for part in (series.mean, series.scale))
    states = mean + scale * decoded.mean[0]
    learned = scale * model.data_diffusion(batch.times.unsqueeze(-1), decoded.latent[0])
    return states, learned, series.system.diffusion(states)


def diffusion_ratio(model: LatentSeries, batches: Iterator[Batch], series: Series) -> Tensor:
    """The root mean square of the learned diffusion over that of the true one, at the same states, of the channel
    where it is furthest from 1."""
    sums: list[Tensor] = []
    for batch in batches:
        _, learned, true = diffusions(model, batch, series)
        sums.append(torch.stack([learned, true]).square().sum((1, 2)))
    learned, true = torch.stack(sums).sum(0).sqrt()
    ratios = learned / true
    return ratios[ratios.clamp(min=1e-30).log().abs().argmax()]
