"""The evidence lower bound of a latent variable model."""

from __future__ import annotations

import math

from torch import Tensor, nn

from noderun.data import Batch, Classes, Levels, Series, Target, Values
from noderun.models import VAE, LatentSeries
from noderun.objectives.objective import Objective
from noderun.record.metric import Metric


class ELBO(Objective):
    """log p(x | z) - (log q(z | x) - log p(z)) at one z ~ q(z | x) each (Kingma and Welling 2014, equation 2).

    In training the weight of the parenthesis grows from 0 to 1 over the model's kl_warmup steps. More than two levels
    also have bits per dimension. Series have a bound of their own, ``SeriesELBO``.
    """

    metrics = (Metric("elbo", "ELBO", ".2f", unit="nats", better="higher"),)
    models = (VAE, LatentSeries)
    targets = (Levels, Series, Classes, Values)

    def for_target(self, target: Target) -> Objective:
        if isinstance(target, Levels):
            return self
        from noderun.objectives.series_elbo import SeriesELBO

        return SeriesELBO().for_target(target)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, VAE)
        log_likelihood, kl = model(batch.inputs, batch.index)
        bound = (log_likelihood - kl).detach()
        values = {"loss": (kl_weight(model, self.step) * kl - log_likelihood).mean(), "elbo": bound, "kl": kl.detach()}
        bits = {"bits_per_dim": -bound / (math.prod(model.shape) * math.log(2))} if model.levels > 2 else {}
        return values | bits


def kl_weight(model: VAE | LatentSeries, step: int) -> float:
    """That of the KL divergence in this step of training; 1 in testing."""
    return min(1.0, step / model.kl_warmup) if model.training and model.kl_warmup else 1.0
