"""The evidence lower bound of a latent variable model of series."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    """ELBO = E_q log p(x | z(0)) - KL(q || p); x are the values asked for and those given before them, as a forecast's
    history is, or all that is given if a label is asked for.

    In training the KL grows to its full weight over model.kl_warmup steps, and the loss leaves out the constant
    n/2 log 2 pi of n values. A test draws TEST_DRAWS times, by each example's index, and reports: "elbo" per series;
    "nll", -log of the mean over draws of p(x | z(0)), per value asked for; "mse" of the posterior mean's path
    (beside a label in units of the standardized channels).
    The loss of a label or of values is added with model.label_weight (Rubanova et al. 2019, section 4.4).
    """

    metrics = OF_SERIES
    targets = (Series, Classes, Values)
    models = (LatentODE,)

    def __init__(self, labels: Any = None, scale: tuple[float, ...] | None = None) -> None:
        self.labels, self.scale = labels, scale  # labels: the objective of the answers beside the series, if there are
        if labels is not None:
            self.metrics = (*labels.metrics, *(metric for metric in OF_SERIES if metric not in labels.metrics))

    def for_target(self, target: Target) -> Objective:
        return Elbo(scale=target.scale) if isinstance(target, Series) else Elbo(SeriesObjective().for_target(target))

    def outputs(self, target: Target) -> int:
        """Beside the series' own values."""
        return 0 if isinstance(target, Series) else target.outputs

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(model, LatentODE):
            raise TypeError(f"objective elbo is of a latent ODE, not of a {type(model).__name__}")
        assert batch.times is not None
        mean, std = model.encode(batch.inputs, batch.times, batch.mask)
        z0 = mean + std * draws(model, mean, batch)
        testing = not model.training
        x, times, mask, asked = series_of(batch, self.labels is not None)
        decoded = model.decode(torch.cat([z0, mean.unsqueeze(0)]) if testing else z0, times)
        log_p = log_normal(x, decoded.mean, model.noise, mask)[: len(z0)]
        if model.log_rate is not None:
            log_p = log_p + log_poisson(decoded, mask)[: len(z0)]
        expected, kl = log_p.mean(0), kl_to_standard(mean, std)
        loss = self.kl_weight(model) * kl - expected - 0.5 * math.log(2 * math.pi) * mask.flatten(1).sum(1)
        values = {"loss": loss.mean(), "elbo": (expected - kl).detach(), "kl": kl.detach()}
        values |= {f"nfe_{part}": loss.new_tensor(nfe) for part, nfe in model.evaluations().items()}
        values["distinct_times"] = loss.new_tensor(float(decoded.distinct_times))
        if testing:
            paths, x, mask = decoded.mean[:, :, :asked], x[:, :asked], mask[:, :asked]
            values["nll"] = mean_nll(log_normal(x, paths[:-1], model.noise, mask), mask)
            values["mse"] = squared_error(paths[-1], x, mask, self.scale)
        return values if self.labels is None else self.with_labels(values, model, z0, batch)

    def over_split(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.labels.over_split(model, batches) if self.labels is not None else {}
        return found

    def kl_weight(self, model: LatentODE) -> float:
        return min(1.0, self.step / model.kl_warmup) if model.training and model.kl_warmup else 1.0

    def with_labels(self, values: dict[str, Tensor], model: LatentODE, z0: Tensor, batch: Batch) -> dict[str, Tensor]:
        found = self.labels.judge(model.answer(z0).mean(0), batch)
        return values | found | {"loss": values["loss"] + model.label_weight * found["loss"]}


def series_of(batch: Batch, labeled: bool) -> tuple[Tensor, Tensor, Tensor, int]:
    """The values [B, S, D] whose likelihood counts, their times and mask, and how many of the S are asked for."""
    assert batch.times is not None
    given = batch.inputs, batch.times, channel_mask(batch.inputs, batch.mask)
    if labeled or batch.target_times is None:
        return *given, batch.times.shape[1]
    assert batch.targets is not None
    asked = batch.targets, batch.target_times, channel_mask(batch.targets, batch.target_mask)
    history = given[2] & (batch.times < batch.target_times[:, :1]).unsqueeze(-1)
    if not history.any():
        return *asked, asked[1].shape[1]
    x, times = (torch.cat(pair, dim=1) for pair in zip(asked[:2], given[:2], strict=True))
    return x, times, torch.cat([asked[2], history], dim=1), asked[1].shape[1]


def mean_nll(log_p: Tensor, mask: Tensor) -> Tensor:
    """-log of the mean over draws of p, from log p [K, B], per value of the mask: [B]."""
    return (math.log(len(log_p)) - log_p.logsumexp(0)) / mask.flatten(1).sum(1).clamp(min=1)


def draws(model: LatentODE, mean: Tensor, batch: Batch) -> Tensor:
    """Standard normal [K, B, latent]: of torch's generator in training, of each example's index in a test."""
    if model.training:
        return torch.randn(model.samples, *mean.shape, device=mean.device, dtype=mean.dtype)
    index = torch.arange(len(mean), device=mean.device) if batch.index is None else batch.index
    return noise.normal(0, index, (TEST_DRAWS, mean.shape[1]), mean.dtype).transpose(0, 1)
