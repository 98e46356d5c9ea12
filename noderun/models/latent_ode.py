"""The latent ODE: a variational autoencoder of series whose decoder solves an ODE from a latent state at time 0.

Chen et al. (2018), section 5; Rubanova et al. (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.models.block import MakeDynamics, SolveBlock
from noderun.models.encoders import BackwardODERNN, BackwardRNN
from noderun.models.latent import Decoded, LatentCurve, of_each, small_net
from noderun.ode.configured import ConfiguredSolve


class WithRate(nn.Module):
    """d(z, L)/dt = (f(t, z), rate(z)): the Poisson process' integral beside the state (Chen et al. 2018, section 5)."""

    def __init__(self, field: nn.Module, log_rate: nn.Module, latent: int) -> None:
        super().__init__()
        self.field, self.log_rate, self.latent = field, log_rate, latent

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        z = state[:, : self.latent]
        return torch.cat([self.field(t, z), self.log_rate(z).exp()], dim=1)


class LatentODE(LatentCurve):
    """z(0) ~ N(0, I), dz/dt = f(t, z), x(t) ~ N(g(z(t)), noise^2).

    With ``lift`` the state of the ODE has that size, and its start is a net of three layers of z(0).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: ConfiguredSolve,
        *,
        latent: int = 8,
        lift: int | None = None,
        encoder: str = "rnn",
        hidden: int = 64,
        euler_steps: int = 1,
        decoder: int = 64,
        noise: float = 0.1,
        poisson: bool = False,
        samples: int = 1,
        kl_warmup: int = 0,
        label_weight: float = 1.0,
    ) -> None:
        super().__init__(latent, noise, samples, kl_warmup, label_weight)
        self.channels = channels = shape[-1]
        if encoder == "ode_rnn":
            self.encoder = BackwardODERNN(channels, hidden, make_dynamics, solve, euler_steps)
        else:
            self.encoder = BackwardRNN(channels, hidden)
        self.posterior = nn.Linear(hidden, 2 * latent)
        self.size = size = lift or latent
        self.lift = nn.Identity() if lift is None else three_layers(latent, lift)
        field, self.log_rate = make_dynamics((size,)), smooth_net(size, 32, channels) if poisson else None
        self.block = SolveBlock(field if self.log_rate is None else WithRate(field, self.log_rate, size), solve)
        self.decoder = small_net(size, decoder, channels)
        self.head = nn.Linear(latent, outputs) if outputs else None

    def decode(self, z0: Tensor, times: Tensor) -> Decoded:
        """From z(0) [K, B, latent], by one solve over all distinct times of [B, S], of which each series takes its own.

        Times before 0 are reached by a second solve, backward.
        """
        draws, count = z0.shape[:2]
        ts, place = torch.unique(times, return_inverse=True)
        start = self.lift(z0.flatten(0, 1))
        if self.log_rate is not None:
            start = torch.cat([start, start.new_zeros(len(start), self.channels)], dim=1)
        states = self.solved(start, ts).unflatten(1, (draws, count))  # [U, K, B, size (+ D)]
        own = of_each(states, place)
        z = own[..., : self.size]
        if self.log_rate is None:
            return Decoded(z, self.decoder(z), len(ts))
        return Decoded(z, self.decoder(z), len(ts), self.log_rate(z), states[-1, ..., self.size :])

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


def smooth_net(inputs: int, hidden: int, outputs: int) -> nn.Module:
    """The logarithm of a rate: a solve integrates the rate, and a kink in it would cost steps."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def three_layers(inputs: int, width: int) -> nn.Module:
    """The net that makes the ODE's start in diffrax's example of a latent ODE."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
    )
