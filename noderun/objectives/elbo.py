"""The evidence lower bound of a latent variable model of series."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from noderun import noise
from noderun.data import Batch, Classes, Series, Target, Values
from noderun.models.latent_ode import LatentODE, kl_to_standard, log_normal, log_poisson
from noderun.models.timeline import channel_mask
from noderun.objectives.objective import Objective
from noderun.objectives.regress import squared_error
from noderun.objectives.series import SeriesObjective
from noderun.record.metric import METRICS, Metric

TEST_DRAWS = 10
OF_SERIES = (
    Metric("elbo", "ELBO", ".3f", unit="nats", better="higher"),
    METRICS["nll"],
    METRICS["rmse"],
    Metric("nfe_encoder", "NFE encoder", ".1f", headline=False),
    Metric("nfe_decoder", "NFE decoder", ".1f", headline=False),
    Metric("distinct_times", "distinct times", ".1f", headline=False),
)


class Elbo(Objective):
    """ELBO = E_q log p(x | z(0)) - KL(q || p), of the targets of a series or, if a label is asked for, of its inputs.

    In training the KL grows to its full weight over model.kl_warmup steps, and the loss leaves out the constant
    n/2 log 2 pi of n values. A test draws TEST_DRAWS times, by each example's index, and reports: "elbo" per series;
    "nll", -log of the mean over draws of p(x | z(0)), per value; "mse" of the posterior mean's path.
    A label's or value's loss is added with model.label_weight (Rubanova et al. 2019, section 4.4).
    """

    metrics = OF_SERIES
    targets = (Series, Classes, Values)

    def __init__(self, labels: Any = None) -> None:
        self.labels = labels  # what is reported of the answers beside the series; None: there are none
        if labels is not None:
            self.metrics = (*labels.metrics, *(metric for metric in OF_SERIES if metric not in labels.metrics))

    def on(self, target: Target) -> Objective:
        return self if isinstance(target, Series) else Elbo(SeriesObjective().on(target))

    def outputs(self, target: Target) -> int:
        """Beside the series' own values."""
        return 0 if isinstance(target, Series) else target.outputs

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(model, LatentODE):
            raise TypeError(f"objective elbo is of a latent ODE, not of a {type(model).__name__}")
        x, times, mask = series_of(batch, self.labels is not None)
        mean, std = model.encode(batch.inputs, batch.times, batch.mask)  # type: ignore[arg-type]
        z0 = mean + std * draws(model, mean, batch)
        testing = not model.training
        decoded = model.decode(torch.cat([z0, mean.unsqueeze(0)]) if testing else z0, times)
        log_p = log_normal(x, decoded.mean, model.noise, mask)  # [K, B], and in a test a last row of the mean
        if model.log_rate is not None:
            log_p = log_p + log_poisson(decoded, mask)
        log_p, kl, count = log_p[: len(z0)], kl_to_standard(mean, std), mask.flatten(1).sum(1)
        elbo = log_p.mean(0) - kl
        loss = (1 - self.kl_weight(model)) * -kl - elbo - 0.5 * math.log(2 * math.pi) * count
        values = {"loss": loss.mean(), "elbo": elbo.detach(), "kl": kl.detach()}
        values |= {f"nfe_{part}": loss.new_tensor(nfe) for part, nfe in model.evaluations().items()}
        values["distinct_times"] = loss.new_tensor(float(len(times.unique())))
        if testing:
            nll = math.log(len(z0)) - log_p.logsumexp(0)
            values |= {"nll": nll / count.clamp(min=1), "mse": squared_error(decoded.mean[-1], x, mask)}
        return values if self.labels is None else self.with_labels(values, model, z0, batch)

    def kl_weight(self, model: LatentODE) -> float:
        return min(1.0, self.step / model.kl_warmup) if model.training and model.kl_warmup else 1.0

    def with_labels(self, values: dict[str, Tensor], model: LatentODE, z0: Tensor, batch: Batch) -> dict[str, Tensor]:
        found = self.labels.judge(model.answer(z0).mean(0), batch)
        return values | found | {"loss": values["loss"] + model.label_weight * found["loss"]}


def series_of(batch: Batch, labeled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The values [B, S, D] whose likelihood counts, their times, and which of them there are."""
    assert batch.times is not None
    if labeled or batch.target_times is None:
        return batch.inputs, batch.times, channel_mask(batch.inputs, batch.mask)
    assert batch.targets is not None
    return batch.targets, batch.target_times, channel_mask(batch.targets, batch.target_mask)


def draws(model: LatentODE, mean: Tensor, batch: Batch) -> Tensor:
    """Standard normal [K, B, latent]: of torch's generator in training, of each example's index in a test."""
    if model.training:
        return torch.randn(model.samples, *mean.shape, device=mean.device, dtype=mean.dtype)
    index = torch.arange(len(mean), device=mean.device) if batch.index is None else batch.index
    return noise.normal(0, index, (TEST_DRAWS, mean.shape[1]), mean.dtype).transpose(0, 1)
