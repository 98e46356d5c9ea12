"""Invertible blocks on a pair of states, as the reversible nets stack them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noderun.dynamics.conv import group_norm
from noderun.models.reversible import Pair


class Residual(nn.Module):
    """GN-ReLU-conv3x3, twice: the residual function of a RevNet unit."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2, self.conv2 = group_norm(channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class Symmetric(nn.Module):
    """K^T s(K x + b) with s = tanh, the gradient of a potential (Chang et al. 2018, "Reversible architectures")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(torch.tanh(self.conv(x)), self.conv.weight, padding=1)


class Additive(nn.Module):
    """u1 = x1 + h F(x2); u2 = x2 + sign h G(u1): the unit of Gomez et al. 2017 for h = 1 and sign = 1.

    With sign = -1 and gradients F and G it is a symplectic Euler step on a Hamiltonian field, Verlet's staggered.
    """

    def __init__(self, first: nn.Module, second: nn.Module, step: float = 1.0, sign: float = 1.0) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.step, self.sign = step, sign

    def forward(self, x: Pair) -> Pair:
        u1 = x[0] + self.step * self.first(x[1])
        return u1, x[1] + self.sign * self.step * self.second(u1)

    def inverse(self, y: Pair) -> Pair:
        x2 = y[1] - self.sign * self.step * self.second(y[0])
        return y[0] - self.step * self.first(x2), x2


class Leapfrog(nn.Module):
    """(y_(j-1), y_j) to (y_j, 2 y_j - y_(j-1) + h^2 f(y_j)) with f = -field, for y'' = f(y)."""

    def __init__(self, field: nn.Module, step: float) -> None:
        super().__init__()
        self.field, self.step = field, step

    def forward(self, x: Pair) -> Pair:
        return x[1], 2 * x[1] - x[0] - self.step**2 * self.field(x[1])

    def inverse(self, y: Pair) -> Pair:
        return 2 * y[0] - y[1] - self.step**2 * self.field(y[0]), y[0]
