"""The latent ODE: a variational autoencoder of series whose decoder solves an ODE from a latent state at time 0.

Chen et al. (2018), section 5; Rubanova et al. (2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noderun.models.block import MakeDynamics, SolveBlock
from noderun.models.encoders import BackwardODERNN, BackwardRNN
from noderun.ode.configured import ConfiguredSolve


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a latent ODE says of a series at S times, for K draws of z(0)."""

    latent: Tensor  # [K, B, S, latent]
    mean: Tensor  # [K, B, S, D]
    distinct_times: int  # of the batch, at which the solve has outputs
    log_rate: Tensor | None = None  # [K, B, S, D] of a Poisson process of the observations of each channel
    expected: Tensor | None = None  # [K, B, D]: the rate's integral from 0 to the last of all times


class WithRate(nn.Module):
    """d(z, L)/dt = (f(t, z), rate(z)): the Poisson process' integral beside the state (Chen et al. 2018, section 5)."""

    def __init__(self, field: nn.Module, log_rate: nn.Module, latent: int) -> None:
        super().__init__()
        self.field, self.log_rate, self.latent = field, log_rate, latent

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        z = state[:, : self.latent]
        return torch.cat([self.field(t, z), self.log_rate(z).exp()], dim=1)


class LatentODE(nn.Module):
    """z(0) ~ N(0, I), dz/dt = f(t, z), x(t) ~ N(g(z(t)), noise^2); q(z(0) | x) = N(mean, std^2) by the encoder.

    Called as a model of series it answers with the mean of q: g(z(t)) [B, S, D] at target_times [B, S], or without
    them a linear map of z(0), [B, outputs]. Objective ``elbo`` trains it; ``samples``, ``kl_warmup``
    and ``label_weight`` are for that.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: ConfiguredSolve,
        *,
        latent: int = 4,
        encoder: str = "rnn",
        hidden: int = 25,
        euler_steps: int = 1,
        decoder: int = 20,
        noise: float = 0.1,
        poisson: bool = False,
        samples: int = 1,
        kl_warmup: int = 0,
        label_weight: float = 1.0,
    ) -> None:
        super().__init__()
        channels = shape[-1]
        self.channels, self.latent, self.noise = channels, latent, noise
        self.samples, self.kl_warmup, self.label_weight = samples, kl_warmup, label_weight
        self.encoder: nn.Module
        if encoder == "ode_rnn":
            self.encoder = BackwardODERNN(channels, hidden, make_dynamics, solve, euler_steps)
        else:
            self.encoder = BackwardRNN(channels, hidden)
        self.posterior = nn.Linear(hidden, 2 * latent)
        field, self.log_rate = make_dynamics((latent,)), small_net(latent, decoder, channels) if poisson else None
        self.block = SolveBlock(field if self.log_rate is None else WithRate(field, self.log_rate, latent), solve)
        self.decoder = small_net(latent, decoder, channels)
        self.head = nn.Linear(latent, outputs) if outputs else None

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        mean, _ = self.encode(inputs, times, mask)
        if target_times is None:
            return self.answer(mean)
        return self.decode(mean.unsqueeze(0), target_times).mean[0]

    def encode(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, latent] of q(z(0) | x)."""
        mean, log_variance = self.posterior(self.encoder(inputs, times, mask)).chunk(2, dim=1)
        return mean, (0.5 * log_variance).exp()

    def answer(self, z0: Tensor) -> Tensor:
        """[..., outputs] from z(0) [..., latent]."""
        if self.head is None:
            raise ValueError("this latent ODE was made for series alone: it has no answer without target_times")
        answers: Tensor = self.head(z0)
        return answers

    def decode(self, z0: Tensor, times: Tensor) -> Decoded:
        """From z(0) [K, B, latent], by one solve over all distinct times of [B, S], of which each series takes its own.

        Times before 0 are reached by a second solve, backward.
        """
        draws, count = z0.shape[:2]
        ts, place = torch.unique(times, return_inverse=True)
        start = z0.flatten(0, 1)
        if self.log_rate is not None:
            start = torch.cat([start, start.new_zeros(len(start), self.channels)], dim=1)
        states = self.solved(start, ts).unflatten(1, (draws, count))  # [U, K, B, latent (+ D)]
        own = states[place, :, torch.arange(count, device=times.device).unsqueeze(1)].movedim(2, 0)  # [K, B, S, ...]
        z = own[..., : self.latent]
        if self.log_rate is None:
            return Decoded(z, self.decoder(z), len(ts))
        return Decoded(z, self.decoder(z), len(ts), self.log_rate(z), states[-1, ..., self.latent :])

    def solved(self, start: Tensor, ts: Tensor) -> Tensor:
        """The state [U, N, ...] at times in order, from ``start`` at time 0."""
        zero = ts.new_zeros(1)
        before, after = ts[ts < 0], ts[ts > 0]
        parts = [start.unsqueeze(0)] if len(before) + len(after) < len(ts) else []
        if len(after):
            parts.append(self.block(start, torch.cat([zero, after])).ys[1:])
        if len(before):
            parts.insert(0, self.block(start, torch.cat([zero, before.flip(0)])).ys[1:].flip(0))
        return torch.cat(parts)

    def evaluations(self) -> dict[str, float]:
        """NFE of the last solve of the encoder (0 of a plain RNN) and of the decoder."""
        parts = {"encoder": getattr(self.encoder, "block", None), "decoder": self.block}
        counts = {name: block.stats.nfe_forward if block and block.stats else 0 for name, block in parts.items()}
        return {name: float(torch.as_tensor(count, dtype=torch.float64).mean()) for name, count in counts.items()}


def small_net(inputs: int, hidden: int, outputs: int) -> nn.Module:
    """One hidden layer with ReLU, as the authors' decoder; linear without hidden units."""
    if hidden == 0:
        return nn.Linear(inputs, outputs)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


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
