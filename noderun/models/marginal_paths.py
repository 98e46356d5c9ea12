"""Paths of a latent SDE whose posterior is given by normal marginals of z(t), by steps that keep these marginals.

The posterior's own equation is stiff where its marginals are narrow: z returns to their mean at the rate
g^2 / (2 std^2), and Euler's method explodes. A step of the linear equation is a normal number, whose correlation with
the one before is exp(-int g^2 / (2 std^2) dt). Against it stands Euler's step of the prior, N(z + h dt, g^2 dt).
"""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.models.latent_equation import LatentEquation
from noderun.models.steering import Marginals
from noderun.sde import BrownianPath


def marginal_paths(
    equation: LatentEquation, steering: Marginals, z: Tensor, path: BrownianPath, *context: Tensor
) -> tuple[Tensor, Tensor]:
    """States [T, N, L] at ``path.times`` from z [N, L] at the first, and log dq/dp [N] of all steps.

    After a series' last observation steps are the prior's.
    """
    curves, knots, last = context
    times = z.new_tensor(path.times)
    found = steering.at(times.expand(len(z), -1), curves, knots)
    mean, std = found.mean.transpose(0, 1), found.std.transpose(0, 1)  # [T, N, L]
    rows, log_ratio = [z], torch.zeros_like(z[:, 0])
    for k, (start, end) in enumerate(zip(path.times, path.times[1:], strict=False)):
        dt, inside = end - start, times[k] < last
        g = equation.prior_diffusion(times[k], z)
        prior = z + dt * (equation.prior_drift(times[k], z) + steering.to_ito(equation, z, g)), g * dt**0.5
        forgotten = dt * g.square() / (std[k] * std[k + 1])  # the correlation is exp(-forgotten / 2)
        kept = mean[k + 1] + torch.exp(-0.5 * forgotten) * std[k + 1] * (z - mean[k]) / std[k]
        own = kept, std[k + 1] * (-torch.expm1(-forgotten)).sqrt()
        epsilon = path(start, end) / dt**0.5
        z = torch.where(inside, own[0] + own[1] * epsilon, prior[0] + prior[1] * epsilon)
        change = 0.5 * ((z - prior[0]) / prior[1]).square() - 0.5 * epsilon.square() + (prior[1] / own[1]).log()
        log_ratio = log_ratio + torch.where(inside, change, 0.0).sum(1)
        rows.append(z)
    return torch.stack(rows), log_ratio
