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
    """s u = q - p with a net q of t, z and the context of the next observation.

    If c = 1, q is the posterior's drift f and u = (f - h) / g (Li et al. 2020): the path term of the ELBO is then a
    regression of h on f, which is how h learns. A net for f - h instead would hide from h what the posterior knows.
    """

    def __init__(self, size: int, context: int, width: int, layers: int, name: str) -> None:
        super().__init__()
        self.net = Net(1 + size + context, width, layers, size, name)
        self.first = nn.Linear(context, 2 * size)

    def context(self, contexts: Tensor, knots: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What ``forward`` takes."""
        return contexts, knots, last

    def start(self, contexts: Tensor, knots: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [N, L] of z(0)."""
        mean, log_std = self.first(contexts[:, 0]).chunk(2, dim=-1)
        return mean, log_std.exp()

    def forward(
        self,
        equation: LatentEquation,
        t: Tensor,
        z: Tensor,
        p: Tensor,
        s: Tensor,
        contexts: Tensor,
        knots: Tensor,
        last: Tensor,
    ) -> Tensor:
        row = (knots <= t).sum(1).clamp(max=knots.shape[1] - 1)
        context = contexts[torch.arange(len(z), device=z.device), row]
        before = t < last
        s = torch.where(
            before, s, 1.0
        )  # past the last observation s may be 0, and 0 times the gradient of 1 / 0 is NaN
        return torch.where(before, (self.net(with_time(t, z, context)) - p) / s, 0.0)


class Marginal(NamedTuple):
    """N(mean, std^2) of z(t), and its derivatives in t."""

    mean: Tensor
    std: Tensor
    mean_slope: Tensor
    std_slope: Tensor


class Marginals(nn.Module):
    """z(t) ~ N(mean(t), std(t)^2) for all t, and the u that makes it so (Bartosh et al. 2025, SDE Matching).

    Mean and log std are cubic between knots, time 0 and the observations; a net of each knot's context gives their
    values and slopes there. The flow z = mean + std epsilon has the velocity v; the equation with diffusion g and the
    same marginals has Ito's drift v + 1/2 g^2 d log q/dz + g dg/dz, by the Fokker-Planck equation, and Stratonovich's
    v + 1/2 (g^2 d log q/dz + g dg/dz).
    """

    def __init__(self, size: int, context: int, width: int, layers: int, name: str, interpretation: str) -> None:
        super().__init__()
        self.net = Net(1 + context, width, layers, 4 * size, name)
        self.share = 1.0 if interpretation == "ito" else 0.5

    def context(self, contexts: Tensor, knots: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What ``forward`` takes: mean and log std with their slopes [N, 1 + T, 4 L] at time 0 and the observations."""
        knots = torch.cat([torch.zeros_like(last), knots], dim=1)
        contexts = torch.cat([contexts[:, :1], contexts], dim=1)
        t = torch.where(knots.isfinite(), knots, 0.0).unsqueeze(-1)
        return self.net(torch.cat([t, contexts], dim=-1)), knots, last

    def start(self, curves: Tensor, knots: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [N, L] of z(0)."""
        mean, log_std, _, _ = curves[:, 0].chunk(4, dim=-1)
        return mean, log_std.exp()

    def at(self, t: Tensor, curves: Tensor, knots: Tensor) -> Marginal:
        """Moments and slopes, each [N, S, L], at times t [N, S]."""
        values, slopes = hermite(t, curves, knots)
        (mean, log_std), (mean_slope, log_std_slope) = values.chunk(2, dim=-1), slopes.chunk(2, dim=-1)
        std = log_std.exp()
        return Marginal(mean, std, mean_slope, std * log_std_slope)

    def forward(
        self,
        equation: LatentEquation,
        t: Tensor,
        z: Tensor,
        p: Tensor,
        s: Tensor,
        curves: Tensor,
        knots: Tensor,
        last: Tensor,
    ) -> Tensor:
        found = self.at(t.to(z).expand(len(z), 1), curves, knots)
        before = t < last
        s = torch.where(before, s, 1.0)  # as in ContextDrift
        u = self.steer(equation, z.unsqueeze(1), p.unsqueeze(1), s.unsqueeze(1), found).squeeze(1)
        return torch.where(before, u, 0.0)

    def steer(self, equation: LatentEquation, z: Tensor, h: Tensor, g: Tensor, found: Marginal) -> Tensor:
        """u at z [N, S, L] with the prior's drift h and the diffusion g there."""
        epsilon = (z - found.mean) / found.std
        velocity = found.mean_slope + found.std_slope * epsilon
        drift = velocity - 0.5 * g.square() * epsilon / found.std + self.share * diffusion_drift(equation, z, g)
        return (drift - h) / g

    def to_ito(self, equation: LatentEquation, z: Tensor, g: Tensor) -> Tensor:
        """What is added to the prior's drift to make it Ito's."""
        return (1 - self.share) * diffusion_drift(equation, z, g)


def diffusion_drift(equation: LatentEquation, z: Tensor, g: Tensor) -> Tensor:
    """g dg/dz of a form whose diffusion is not multiplied by z."""
    return g * equation.scale.slope(z) if isinstance(equation.scale, ComponentNets) else torch.zeros_like(g)


def hermite(t: Tensor, curves: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Cubic curves and their slopes, each [N, S, C], at times t [N, S] from 0 on; ``curves`` [N, K, 2 C] are values and
    slopes at the knots, the first of them 0. They are constant after the last."""
    last = knots.isfinite().sum(1, keepdim=True) - 1
    left = torch.searchsorted(knots.contiguous(), t.contiguous(), right=True).sub(1).minimum(last)
    right = torch.minimum(left + 1, last)
    start = knots.gather(1, left)
    length = knots.gather(1, right) - start
    elapsed = (t - start).minimum(length).unsqueeze(-1)
    whole = torch.where(length > 0, length, 1.0).unsqueeze(-1)  # 1 of an interval of no length, whose ends are equal
    ends = [curves.gather(1, place.unsqueeze(-1).expand(-1, -1, curves.shape[2])) for place in (left, right)]
    (x0, m0), (x1, m1) = (end.chunk(2, dim=-1) for end in ends)
    u, rise = elapsed / whole, (x1 - x0) / whole
    value = x0 + elapsed * ((1 - u) ** 2 * m0 + u * (3 - 2 * u) * rise - u * (1 - u) * m1)
    slope = (1 - u) * (1 - 3 * u) * m0 + 6 * u * (1 - u) * rise + u * (3 * u - 2) * m1
    return value, slope
