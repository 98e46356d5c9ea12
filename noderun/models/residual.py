"""Residual blocks: Chen et al.'s for images (torchdiffeq, examples/odenet_mnist.py), and one for points."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from noderun.dynamics.conv import group_norm


class ResidualBlock(nn.Module):
    """x + step (GN-ReLU-conv3x3-GN-ReLU-conv3x3), without the x if ``skip`` is false; stride 2 halves the map.

    With a stride the shortcut is a 1x1 convolution of the first activation.
    """

    def __init__(self, width: int, stride: int = 1, skip: bool = True, step: float = 1.0) -> None:
        super().__init__()
        self.skip, self.step = skip, step
        self.norm1 = group_norm(width)
        self.shortcut = nn.Conv2d(width, width, 1, stride, bias=False) if stride > 1 else None
        self.conv1 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = group_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(h)
        h = self.conv2(F.relu(self.norm2(self.conv1(h))))
        return shortcut + self.step * h if self.skip else h


class DenseResidualBlock(nn.Module):
    """x + step W2 tanh(W1 x) of points [B, D]."""

    def __init__(self, size: int, width: int, step: float = 1.0) -> None:
        super().__init__()
        self.step = step
        self.residual = nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.step * self.residual(x)
