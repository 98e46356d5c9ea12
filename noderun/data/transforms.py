"""Bijections from the space of the data to that in which a density is learned, with their change of volume.

A density's numbers are those of the data's own space: log p(x) = log p(y) + log |det dy/dx|.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class Transform(nn.Module):
    """The identity; ``transform(x)`` returns y [B, ...] and log |det dy/dx| [B], ``inverse(y)`` is x.

    ``levels`` is the number of values of a quantized dimension, which data in [0, 1] had before dequantization; a
    likelihood in bits per dimension refers to it. It is None for data that are not quantized.
    """

    levels: int | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        return y


class Standardize(Transform):
    """y = (x - mean) / scale per dimension."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mean) / self.scale, -self.scale.log().sum().expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        return self.mean + self.scale * y


class Logit(Transform):
    """y = logit(alpha + (1 - 2 alpha) x) of x in [0, 1] (Dinh et al. 2017, section 4.1)."""

    def __init__(self, alpha: float, levels: int) -> None:
        super().__init__()
        self.alpha, self.levels = alpha, levels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inside = self.alpha + (1 - 2 * self.alpha) * x
        y = inside.log() - torch.log1p(-inside)
        # log dy/dx = log(1 - 2 alpha) - log s(y) - log s(-y), s the logistic function
        log_det = softplus(-y) + softplus(y) + math.log1p(-2 * self.alpha)
        return y, log_det.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        return (torch.sigmoid(y) - self.alpha) / (1 - 2 * self.alpha)
