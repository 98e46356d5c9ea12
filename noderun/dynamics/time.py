"""Time as a vector of features, for nets that take it at several places."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 8  # over t in [0, 1], from half a period to 64


class TimeEmbedding(nn.Module):
    """t, 0-dim or [B, 1, ..., 1], to [1 or B, width]: sines and cosines (Vaswani et al. 2017), then two linear maps."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)
        self.net = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        angles = t.reshape(-1, 1) * self.frequencies.to(t.dtype)
        return self.net(torch.cat([angles.sin(), angles.cos()], dim=1))
