"""The area under the ROC curve, with its standard error."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def auc(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """The chance that a positive example [N] scores higher than a negative one, and its standard error.

    DeLong, DeLong and Clarke-Pearson (1988), by ranks as Sun and Xu (2014); ties count half. NaN without both classes.
    """
    high, low = scores[positive].double(), scores[~positive].double()
    m, n = len(high), len(low)
    if min(m, n) == 0:
        return scores.new_tensor(math.nan), scores.new_tensor(math.nan)
    # the structural components: how many of the other class each example is on the right side of
    of_high = (midranks(torch.cat([high, low]))[:m] - midranks(high)) / n
    of_low = 1 - (midranks(torch.cat([high, low]))[m:] - midranks(low)) / m
    # the variance of a single example is not known: NaN
    return of_high.mean(), (variance(of_high) / m + variance(of_low) / n).sqrt()


def midranks(x: Tensor) -> Tensor:
    """Ranks from 1 of x [N]; equal values share their mean rank."""
    _, place, counts = x.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[place]


def variance(x: Tensor) -> Tensor:
    return (x - x.mean()).square().sum() / (len(x) - 1)
