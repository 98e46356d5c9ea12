"""The evidence lower bound of a variational autoencoder."""

from __future__ import annotations

import math

from torch import Tensor, nn

from noderun.data import Batch, Levels
from noderun.models.vae import VAE
from noderun.objectives.objective import Objective
from noderun.record.metric import Metric


class ELBO(Objective):
    """-ELBO = -log p(x | z) + log q(z | x) - log p(z) at one z ~ q(z | x) per example (Kingma and Welling 2014, eq. 2).

    In training the last two are weighted by the model's warm-up. Of more than two levels bits per dimension, too.
    """

    metrics = (Metric("negative_elbo", "-ELBO", ".2f", unit="nats"),)
    models = VAE
    targets = (Levels,)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, VAE)
        log_likelihood, kl = model(batch.inputs, batch.index)
        bound = (kl - log_likelihood).detach()
        values = {"loss": (model.kl_weight() * kl - log_likelihood).mean(), "negative_elbo": bound, "kl": kl.detach()}
        bits = {"bits_per_dim": bound / (math.prod(model.shape) * math.log(2))} if model.levels > 2 else {}
        return values | bits
