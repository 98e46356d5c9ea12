"""Variational autoencoders (Kingma and Welling 2014) whose posterior is a normal, or a flow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noderun import noise
from noderun.models.block import Solve
from noderun.models.flow import log_normal
from noderun.models.posterior import AmortizedFFJORD, AmortizedPlanar, NoFlow

POSTERIORS = ("none", "planar", "ffjord")


class VAE(nn.Module):
    """p(x | z) p(z) with z ~ N(0, I) in ``latent`` dimensions, and q(z | x) by an encoder.

    ``outputs`` logits per example make p(x | z): one for each number of x is a Bernoulli distribution, more are a
    categorical one of so many levels. Encoder and decoder are perceptrons with layers of ``hidden`` units.
    ``kl_warmup`` is for the objective ``elbo``.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        solve: Solve,
        *,
        latent: int = 64,
        hidden: Sequence[int] = (300, 300),
        posterior: str = "none",
        layers: int = 16,
        rank: int = 4,
        flow_hidden: Sequence[int] = (128, 128),
        kl_warmup: int = 0,
    ) -> None:
        super().__init__()
        self.shape, self.latent, self.kl_warmup = tuple(shape), latent, kl_warmup
        self.levels = max(outputs // math.prod(shape), 2)
        self.encoder = perceptron([math.prod(shape), *hidden])
        self.normal = nn.Linear(hidden[-1], 2 * latent)  # mean and log of the variance
        self.decoder = nn.Sequential(perceptron([latent, *reversed(hidden)]), nn.Linear(hidden[0], outputs))
        if posterior == "ffjord":
            self.posterior: nn.Module = AmortizedFFJORD(hidden[-1], latent, flow_hidden, rank, solve)
        else:
            self.posterior = AmortizedPlanar(hidden[-1], latent, layers) if posterior == "planar" else NoFlow()

    def forward(self, x: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """log p(x | z) and log q(z | x) - log p(z) [B] at one z ~ q(z | x) per example: their difference is an ELBO.

        In testing the noise of an example is a function of its ``index``.
        """
        z, log_q = self.encode(x, index)
        return self.log_likelihood(z, x), log_q - log_normal(z)

    def encode(self, x: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z ~ q(z | x) [B, latent], and log q(z | x) [B] = log q(z_0 | x) - log |det dz/dz_0|."""
        h = self.encoder(x.flatten(1))
        mean, log_variance = self.normal(h).chunk(2, dim=1)
        if self.training or index is None:
            e = noise.for_batch(torch.randn, mean.shape, mean)
        else:
            e = noise.normal(0, index, (self.latent,))
        z, log_det = self.posterior(mean + (0.5 * log_variance).exp() * e, h, index)
        return z, log_normal(e) - 0.5 * log_variance.sum(1) - log_det

    def log_likelihood(self, z: Tensor, x: Tensor) -> Tensor:
        """log p(x | z) [B] in nats, of numbers of x that are levels in [0, 1]."""
        logits, x = self.decoder(z), x.flatten(1)
        if self.levels == 2:
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        level = (x * (self.levels - 1)).round().long()
        return -F.cross_entropy(logits.view(*x.shape, self.levels).movedim(-1, 1), level, reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """x ~ p(x | z) [n, *shape] with z ~ N(0, ``temperature``^2 I)."""
        like = next(self.parameters())
        z = torch.randn(n, self.latent, generator=generator, device=like.device, dtype=like.dtype)
        logits = self.decoder(temperature * z)
        if self.levels == 2:
            x = torch.bernoulli(logits.sigmoid(), generator=generator)
        else:
            chances = logits.view(-1, self.levels).softmax(1)
            x = torch.multinomial(chances, 1, generator=generator) / (self.levels - 1)
        return x.view(n, *self.shape).to(like.dtype)


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps between the widths, each followed by a SiLU."""
    parts: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        parts += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*parts)
