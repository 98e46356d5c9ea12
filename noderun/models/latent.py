"""What latent equations of series share: z(0) from an encoder, values from z(t), and their likelihoods."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from noderun.models.block import SolveBlock


class Posterior(NamedTuple):
    """q(z(0) | x) = N(mean, std^2), each [B, latent], and what the encoder says of the path after it."""

    mean: Tensor
    std: Tensor
    context: tuple[Tensor, ...] = ()

    def start(self, epsilon: Tensor) -> Tensor:
        """z(0) [K, B, latent] from standard normal numbers."""
        return self.mean + self.std * epsilon


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a latent equation says of a series at S times, for K draws of z."""

    latent: Tensor  # [K, B, S, latent]
    mean: Tensor  # [K, B, S, D]
    distinct_times: int  # of the batch, at which the solve has outputs
    log_rate: Tensor | None = None  # [K, B, S, D] of a Poisson process of the observations of each channel
    expected: Tensor | None = None  # [K, B, D]: the rate's integral from 0 to the last of all times
    path_kl: Tensor | None = None  # [K, B]: of the posterior's path against the prior's, given z(0)
    log_ratio: Tensor | None = None  # [K, B]: log dq/dp of the path that was drawn, in a test


class LatentSeries(nn.Module, ABC):
    """z(0) ~ p, z(t) by an equation, x(t) ~ N(decoder(z(t)), noise^2); an encoder gives q(z | x).

    Called as a model of series it answers at target_times [B, S] with [B, S, D], or without them with a linear map of
    the mean of q(z(0) | x), [B, outputs]. Objective ``elbo`` trains it; ``samples``, ``kl_warmup`` and ``label_weight``
    are for that.
    """

    encoder: nn.Module
    block: SolveBlock
    decoder: nn.Module
    head: nn.Module | None
    log_rate: nn.Module | None

    def __init__(self, latent: int, noise: float, samples: int, kl_warmup: int, label_weight: float) -> None:
        super().__init__()
        self.latent, self.noise = latent, noise
        self.samples, self.kl_warmup, self.label_weight = samples, kl_warmup, label_weight

    @abstractmethod
    def infer(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> Posterior:
        """q(z | x) of what was observed."""

    @abstractmethod
    def paths(self, posterior: Posterior, epsilon: Tensor, times: Tensor, index: Tensor | None = None) -> Decoded:
        """The posterior's paths from z(0) at ``epsilon`` [K, B, latent], at times [B, S]; ``index`` [B] names the
        series."""

    @abstractmethod
    def point(self, decoded: Decoded) -> Tensor:
        """The one answer [B, S, D] out of paths whose last has epsilon = 0."""

    @abstractmethod
    def prior_paths(self, count: int, ts: Tensor, seed: int) -> Tensor:
        """Values without noise [count, T, D] of draws from the prior at rising times [T] from 0 on."""

    def data_diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        """The diffusion of each channel [..., D] of the values at t [..., 1] and z [..., latent]: 0 of an ODE."""
        return torch.zeros_like(self.decoder(z))

    def prior(self) -> tuple[Tensor | float, Tensor | float]:
        """Mean and standard deviation of p(z(0))."""
        return 0.0, 1.0

    def start_kl(self, posterior: Posterior) -> Tensor:
        """KL(q(z(0) | x) || p(z(0))) [B]."""
        mean, std = self.prior()
        return kl_to_standard((posterior.mean - mean) / std, posterior.std / std)

    def start_log_ratio(self, posterior: Posterior, epsilon: Tensor) -> Tensor:
        """log q(z(0) | x) / p(z(0)) [K, B] at the draws ``epsilon``."""
        mean, std = self.prior()
        scaled = (posterior.start(epsilon) - mean) / std
        return (0.5 * (scaled.square() - epsilon.square()) - (posterior.std / std).log()).sum(-1)

    def answer(self, z0: Tensor) -> Tensor:
        """[..., outputs] from z(0) [..., latent]."""
        if self.head is None:
            raise ValueError("this model was made for series alone: it has no answer without target_times")
        answers: Tensor = self.head(z0)
        return answers

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        posterior = self.infer(inputs, times, mask)
        if target_times is None:
            return self.answer(posterior.mean)
        return self.point(self.paths(posterior, torch.zeros_like(posterior.mean).unsqueeze(0), target_times))

    def evaluations(self) -> dict[str, float]:
        """NFE of the last solve of the encoder (0 of one that solves nothing) and of the decoder."""
        parts = {"encoder": getattr(self.encoder, "block", None), "decoder": getattr(self, "block", None)}
        counts = {name: block.stats.nfe_forward if block and block.stats else 0 for name, block in parts.items()}
        return {name: float(torch.as_tensor(count, dtype=torch.float64).mean()) for name, count in counts.items()}


class LatentCurve(LatentSeries):
    """A model whose path is a function of z(0), which ``decode`` evaluates; its answers follow the mean of q(z(0) | x).

    ``posterior`` is the linear map from the encoder's state to mean and log variance of q(z(0) | x).
    """

    posterior: nn.Linear

    @abstractmethod
    def decode(self, z0: Tensor, times: Tensor) -> Decoded:
        """From z(0) [K, B, latent] to times [B, S], before 0 or after it."""

    def infer(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> Posterior:
        return Posterior(*self.encode(inputs, times, mask))

    def encode(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, latent] of q(z(0) | x)."""
        mean, log_variance = self.posterior(self.encoder(inputs, times, mask)).chunk(2, dim=1)
        return mean, (0.5 * log_variance).exp()

    def paths(self, posterior: Posterior, epsilon: Tensor, times: Tensor, index: Tensor | None = None) -> Decoded:
        return self.decode(posterior.start(epsilon), times)

    def point(self, decoded: Decoded) -> Tensor:
        return decoded.mean[-1]

    def prior_paths(self, count: int, ts: Tensor, seed: int) -> Tensor:
        generator = torch.Generator(ts.device).manual_seed(seed)
        z0 = torch.randn(1, count, self.latent, generator=generator, device=ts.device)
        return self.decode(z0, ts.expand(count, -1)).mean[0]


def small_net(inputs: int, hidden: int, outputs: int) -> nn.Module:
    """One hidden layer with ReLU, as the decoder of Chen et al. (2018); linear without hidden units."""
    if hidden == 0:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def of_each(states: Tensor, place: Tensor) -> Tensor:
    """[K, B, S, ...] of each series' own S out of the states [U, K, B, ...] at all times; place is int64 [B, S]."""
    return states[place, :, torch.arange(len(place), device=place.device).unsqueeze(1)].movedim(2, 0)


def log_normal(x: Tensor, mean: Tensor, std: float, mask: Tensor) -> Tensor:
    """log N(x; mean, std^2) [..., B], summed over the values [B, S, D] that are in the mask."""
    error = torch.where(mask, (x - mean) / std, 0.0)
    constant = math.log(std) + 0.5 * math.log(2 * math.pi)
    return -(0.5 * error.square() + constant * mask).flatten(-2).sum(-1)


def log_poisson(decoded: Decoded, mask: Tensor) -> Tensor:
    """log p of the times of the observations [K, B]: sum of log rates minus the rate's integral."""
    assert decoded.log_rate is not None and decoded.expected is not None
    rates: Tensor = torch.where(mask, decoded.log_rate, 0.0).flatten(-2).sum(-1)
    return rates - decoded.expected.sum(-1)


def kl_to_standard(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, I)) [B]."""
    return 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).sum(1)
