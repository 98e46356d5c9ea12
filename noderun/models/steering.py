"""How the posterior of a latent SDE differs from its prior: u(t, z, context), up to a series' last observation.

The context of N series is contexts [N, T, C] at the times of their observations, knots [N, T], which are infinite where
padding stands, and the last of them [N, 1]. After it u is 0: what is known of the future is the prior's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from noderun.models.latent_equation import ComponentNets, LatentEquation, Net, with_time


class ContextDrift(nn.Module):
    """s u, which is f - h if c = 1, as a net of t, z and the context of the next observation (Li et al. 2020)."""

    def __init__(self, size: int, context: int, width: int, layers: int, name: str) -> None:
        super().__init__()
        self.net = Net(1 + size + context, width, layers, size, name)
        self.first = nn.Linear(context, 2 * size)

    def start(self, contexts: Tensor, knots: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [N, L] of z(0)."""
        mean, log_std = self.first(contexts[:, 0]).chunk(2, dim=-1)
        return mean, log_std.exp()

    def forward(
        self,
        equation: LatentEquation,
        t: Tensor,
        z: Tensor,
        s: Tensor,
        contexts: Tensor,
        knots: Tensor,
        last: Tensor,
    ) -> Tensor:
        row = (knots <= t).sum(1).clamp(max=knots.shape[1] - 1)
        context = contexts[torch.arange(len(z), device=z.device), row]
        return torch.where(t < last, self.net(with_time(t, z, context)) / s, 0.0)


class Marginal(NamedTuple):
    """N(mean, std^2) of z(t), and its derivatives in t."""

    mean: Tensor
    std: Tensor
    mean_slope: Tensor
    std_slope: Tensor


class Marginals(nn.Module):
    """z(t) ~ N(mean(t), std(t)^2) for all t, and the u that makes it so (Bartosh et al. 2025, SDE Matching).

    Mean and standard deviation are a net of t and the context, which is linear in time between observations. The flow
    z = mean + std epsilon has the velocity v; the equation with diffusion g and the same marginals has Ito's drift
    v + 1/2 g^2 d log q/dz + g dg/dz, by the Fokker-Planck equation, and Stratonovich's
    v + 1/2 (g^2 d log q/dz + g dg/dz).
    """

    def __init__(self, size: int, context: int, width: int, layers: int, name: str, interpretation: str) -> None:
        super().__init__()
        self.net = Net(1 + context, width, layers, 2 * size, name)
        self.share = 1.0 if interpretation == "ito" else 0.5

    def start(self, contexts: Tensor, knots: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [N, L] of z(0)."""
        mean, std = self.moments(torch.zeros_like(last), contexts, knots)
        return mean[:, 0], std[:, 0]

    def moments(self, t: Tensor, contexts: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [N, S, L] of z at times t [N, S]."""
        hats, _ = hat_functions(t, knots)
        mean, log_std = self.net(with_time(t.unsqueeze(-1), hats @ contexts)).chunk(2, dim=-1)
        return mean, log_std.exp()

    def at(self, t: Tensor, contexts: Tensor, knots: Tensor) -> Marginal:
        """Moments and slopes, each [N, S, L], at times t [N, S]."""
        hats, slopes = hat_functions(t, knots)
        x = with_time(t.unsqueeze(-1), hats @ contexts)
        dx = with_time(torch.ones_like(t).unsqueeze(-1), slopes @ contexts)
        (mean, log_std), (mean_slope, log_std_slope) = (part.chunk(2, dim=-1) for part in self.net.with_tangent(x, dx))
        std = log_std.exp()
        return Marginal(mean, std, mean_slope, std * log_std_slope)

    def forward(
        self,
        equation: LatentEquation,
        t: Tensor,
        z: Tensor,
        s: Tensor,
        contexts: Tensor,
        knots: Tensor,
        last: Tensor,
    ) -> Tensor:
        found = self.at(t.to(z).expand(len(z), 1), contexts, knots)
        u = self.steer(equation, t, z.unsqueeze(1), s.unsqueeze(1), found).squeeze(1)
        return torch.where(t < last, u, 0.0)

    def steer(self, equation: LatentEquation, t: Tensor, z: Tensor, g: Tensor, found: Marginal) -> Tensor:
        """u at z [N, S, L] with the diffusion g there; t is [] or [N, S, 1]."""
        epsilon = (z - found.mean) / found.std
        velocity = found.mean_slope + found.std_slope * epsilon
        drift = velocity - 0.5 * g.square() * epsilon / found.std + self.share * diffusion_drift(equation, z, g)
        return (drift - equation.prior_drift(t, z)) / g

    def to_ito(self, equation: LatentEquation, z: Tensor, g: Tensor) -> Tensor:
        """What is added to the prior's drift to make it Ito's."""
        return (1 - self.share) * diffusion_drift(equation, z, g)


def diffusion_drift(equation: LatentEquation, z: Tensor, g: Tensor) -> Tensor:
    """g dg/dz of a form whose diffusion is not multiplied by z."""
    return g * equation.scale.slope(z) if isinstance(equation.scale, ComponentNets) else torch.zeros_like(g)


def hat_functions(t: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """What interpolates contexts at times t [N, S] by a product, and its slope: [N, S, T].

    Linear between knots, constant outside of them. An index would do, but its backward pass is slow.
    """
    right = torch.searchsorted(knots.contiguous(), t.contiguous(), right=True)
    left = (right - 1).clamp(min=0)
    right = torch.minimum(right, knots.isfinite().sum(1, keepdim=True) - 1)
    start, end = knots.gather(1, left), knots.gather(1, right)
    between = start < end
    slope = torch.where(between, 1 / (end - start), 0.0)
    share = torch.where(between, (t - start) * slope, 0.0)
    blank = t.new_zeros(*t.shape, knots.shape[1])
    left, right = left.unsqueeze(-1), right.unsqueeze(-1)
    hats = blank.scatter_add(2, left, (1 - share).unsqueeze(-1)).scatter_add(2, right, share.unsqueeze(-1))
    slopes = blank.scatter_add(2, left, -slope.unsqueeze(-1)).scatter_add(2, right, slope.unsqueeze(-1))
    return hats, slopes
