"""The evidence lower bound of a latent variable model of series."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noderun import noise
from noderun.data import Batch, Classes, Series, Target, Values
from noderun.models.latent import Decoded, LatentSeries, log_normal, log_poisson
from noderun.models.timeline import channel_mask
from noderun.objectives.diffusion import DIFFUSION_RATIO, diffusion_ratio
from noderun.objectives.elbo import ELBO, kl_weight
from noderun.objectives.objective import Objective
from noderun.objectives.regress import minmax_metrics, mse_minmax, squared_error
from noderun.objectives.series import SeriesObjective
from noderun.record.metric import METRICS, Metric

TEST_DRAWS = 10
OF_SERIES = (
    *ELBO.metrics,
    METRICS["nll"],
    Metric("iw_nll", "IW-NLL", ".3f", unit="nats"),
    METRICS["rmse"],
    Metric("nfe_encoder", "NFE encoder", ".1f", headline=False),
    Metric("nfe_decoder", "NFE decoder", ".1f", headline=False),
    Metric("distinct_times", "distinct times", ".1f", headline=False),
)


class SeriesELBO(Objective):
    """ELBO = E_q log p(x | z) - KL(q || p); x are the values asked for and those given before them, as a forecast's
    history is, or all that is given if a label is asked for. The KL is that of z(0) and, of an SDE, that of its path.

    In training the KL grows to its full weight over model.kl_warmup steps, and the loss leaves out the constant
    n/2 log 2 pi of n values. A test draws TEST_DRAWS times, by each example's index, and reports: "elbo" per series;
    "nll", -log of the mean over draws of p(x | z), per value asked for; "iw_nll", -log of the mean over draws of
    p(x | z) p(z) / q(z | x), per value of x: the tighter bound on -log p(x) of Burda et al. (2016), which, other than
    "nll", is no smaller for having seen x; "mse" of the model's one answer (beside a label in units of the
    standardized channels); "diffusion_ratio" of a system whose diffusion is known.
    The loss of a label or of values is added with model.label_weight (Rubanova et al. 2019, section 4.4).
    """

    metrics: tuple[Metric, ...] = OF_SERIES
    targets: ClassVar[tuple[type, ...]] = (Series, Classes, Values)
    models: ClassVar[tuple[type[nn.Module], ...]] = (LatentSeries,)

    def __init__(self, labels: Any = None, series: Series | None = None) -> None:
        self.labels, self.series = labels, series  # labels: the objective of the answers beside the series
        self.metrics = (*OF_SERIES, *minmax_metrics(series))
        if series is not None and series.system.diffusion is not None:
            self.metrics = (*self.metrics, DIFFUSION_RATIO)
        if labels is not None:
            self.metrics = (*labels.metrics, *(metric for metric in OF_SERIES if metric not in labels.metrics))

    def for_target(self, target: Target) -> Objective:
        if isinstance(target, Series):
            return type(self)(series=target)
        return SeriesELBO(SeriesObjective().for_target(target))

    def outputs(self, target: Target) -> int:
        """Beside the series' own values."""
        return 0 if isinstance(target, Series) else target.outputs

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, LatentSeries) and batch.times is not None
        posterior = model.infer(batch.inputs, batch.times, batch.mask)
        epsilon = draws(model, posterior.mean, batch)
        testing, count = not model.training, len(epsilon)
        x, times, mask, asked = series_of(batch, self.labels is not None)
        decoded = model.paths(posterior, with_mean(epsilon) if testing else epsilon, times, batch.index)
        log_p, kl = log_likelihood(model, x, decoded, mask)[:count], model.start_kl(posterior)
        if decoded.path_kl is not None:
            kl = kl + decoded.path_kl[:count].mean(0)
        values = bound(model, log_p.mean(0), kl, mask, self.step)
        values |= {f"nfe_{part}": kl.new_tensor(nfe) for part, nfe in model.evaluations().items()}
        values["distinct_times"] = kl.new_tensor(float(decoded.distinct_times))
        if testing:
            log_ratio = model.start_log_ratio(posterior, epsilon)
            if decoded.log_ratio is not None:
                log_ratio = log_ratio + decoded.log_ratio[:count]
            values["iw_nll"] = mean_nll(log_p - log_ratio, mask)
            paths, x, mask = decoded.mean[:count, :, -asked:], x[:, -asked:], mask[:, -asked:]
            values["nll"] = mean_nll(log_normal(x, paths, model.noise, mask), mask)
            values["mse"] = squared_error(
                model.point(decoded)[:, -asked:], x, mask, self.series.scale if self.series else None
            )
        return values if self.labels is None else self.with_labels(values, model, posterior.start(epsilon), batch)

    def over_split(self, model: nn.Module, batches: Iterator[Batch]) -> dict[str, Tensor]:
        if self.labels is not None:
            found: dict[str, Tensor] = self.labels.over_split(model, batches)
            return found
        if self.series is None or self.series.system.diffusion is None:
            return mse_minmax(model, batches, self.series)
        assert isinstance(model, LatentSeries)
        return {"diffusion_ratio": diffusion_ratio(model, batches, self.series)}

    def with_labels(
        self, values: dict[str, Tensor], model: LatentSeries, z0: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        found = self.labels.judge(model.answer(z0).mean(0), batch)
        return values | found | {"loss": values["loss"] + model.label_weight * found["loss"]}


def bound(model: LatentSeries, expected: Tensor, kl: Tensor, mask: Tensor, step: int) -> dict[str, Tensor]:
    """The loss [], the ELBO and the KL [B] from the expected log-likelihood and the KL [B]."""
    loss = kl_weight(model, step) * kl - expected - 0.5 * math.log(2 * math.pi) * mask.flatten(1).sum(1)
    return {"loss": loss.mean(), "elbo": (expected - kl).detach(), "kl": kl.detach()}


def log_likelihood(model: LatentSeries, x: Tensor, decoded: Decoded, mask: Tensor) -> Tensor:
    """log p(x | z) [K, B], of the values and, of a model that has it, of the times of the observations."""
    log_p = log_normal(x, decoded.mean, model.noise, mask)
    return log_p if model.log_rate is None else log_p + log_poisson(decoded, mask)


def with_mean(epsilon: Tensor) -> Tensor:
    """The draws [K, B, latent] with 0, the mean, as one more at the end."""
    return torch.cat([epsilon, torch.zeros_like(epsilon[:1])])


def series_of(batch: Batch, labeled: bool) -> tuple[Tensor, Tensor, Tensor, int]:
    """The values [B, S, D] whose likelihood counts, their times and mask, and how many, the last, are asked for."""
    assert batch.times is not None
    given = batch.inputs, batch.times, channel_mask(batch.inputs, batch.mask)
    if labeled or batch.target_times is None:
        return *given, batch.times.shape[1]
    assert batch.targets is not None
    asked = batch.targets, batch.target_times, channel_mask(batch.targets, batch.target_mask)
    history = given[2] & (batch.times < batch.target_times[:, :1]).unsqueeze(-1)
    if not history.any():
        return *asked, asked[1].shape[1]
    x, times = (torch.cat(pair, dim=1) for pair in zip(given[:2], asked[:2], strict=True))
    return x, times, torch.cat([history, asked[2]], dim=1), asked[1].shape[1]


def mean_nll(log_p: Tensor, mask: Tensor) -> Tensor:
    """-log of the mean over draws of p, from log p [K, B], per value of the mask: [B]."""
    return (math.log(len(log_p)) - log_p.logsumexp(0)) / mask.flatten(1).sum(1).clamp(min=1)


def draws(model: LatentSeries, mean: Tensor, batch: Batch) -> Tensor:
    """Standard normal [K, B, latent]: of torch's generator in training, of each example's index in a test."""
    if model.training:
        return noise.for_batch(torch.randn, (model.samples, *mean.shape), mean, dim=1)
    index = torch.arange(len(mean), device=mean.device) if batch.index is None else batch.index
    return noise.normal(0, index, (TEST_DRAWS, mean.shape[1]), mean.dtype).transpose(0, 1)
