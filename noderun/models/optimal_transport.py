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


def pairing(x: Tensor, y: Tensor, labels: Tensor | None = None) -> Tensor:
    """The permutation p [N] with the least sum of |x[p[j]] - y[j]|^2 + w [labels[p[j]] != labels[j]].

    ``labels`` are int64 [N] of both clouds; without them w is 0. With them it is infinite: points are paired within
    each class, which is exact and takes less time than one problem of N points. Cheng and Schwing (2025, C2OT) have
    the same pairs for classes, by w = 10^6. Their continuous conditions are not here: the second term is then w times
    a distance of conditions, and w is searched so that a given share of all pairs costs no more than a random pairing.
    """
    if labels is None:
        return assignment(squared_distances(x, y))
    order = torch.empty_like(labels)
    for label in labels.unique():
        (members,) = torch.where(labels == label)
        order[members] = members[assignment(squared_distances(x[members], y[members]))]
    return order


def w2_squared(x: Tensor, y: Tensor, labels: Tensor | None = None) -> Tensor:
    """The squared 2-Wasserstein distance [] of two clouds [N, ...]: the least mean square distance of any pairing.

    With ``labels`` [N] of both, the mean over classes, by their size, of the distance within each.
    """
    return (x[pairing(x, y, labels)].double() - y.double()).square().flatten(1).sum(1).mean()
