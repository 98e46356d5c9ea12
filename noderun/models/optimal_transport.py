"""Exact optimal transport between two clouds of as many points, by POT's network simplex (Bonneel et al. 2011)."""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 10**8  # of the simplex, which then always ends at the optimum: POT's own bound is too low for 2,000 points


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 [N, M] of points [N, ...] and [M, ...], in float64."""
    return torch.cdist(x.flatten(1).double(), y.flatten(1).double()).square()


def assignment(cost: Tensor) -> Tensor:
    """The permutation p [N] with the least sum of cost[p[j], j], as int64 on the device of ``cost`` [N, N]."""
    import ot

    # equal weights: the optimal plans that a simplex finds are permutation matrices
    plan = ot.emd([], [], cost.cpu().numpy(), numItermax=ITERATIONS)
    return torch.from_numpy(plan.argmax(0)).to(cost.device)


def w2_squared(x: Tensor, y: Tensor) -> Tensor:
    """The squared 2-Wasserstein distance [] of two clouds [N, ...]: the least mean square distance of any pairing."""
    cost = squared_distances(x, y)
    return cost.gather(0, assignment(cost)[None]).mean()
