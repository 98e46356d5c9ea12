"""The one-layer perceptron of Chen et al. 2018, table 1 (after LeCun et al. 1998)."""

from __future__ import annotations

import math

from torch import nn


class MLP(nn.Sequential):
    """Examples [B, *shape] to [B, outputs]."""

    def __init__(self, shape: tuple[int, ...], outputs: int, *, hidden: int = 300) -> None:
        size = math.prod(shape)
        super().__init__(nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
