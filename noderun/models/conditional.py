"""A velocity that is given a condition beside the state: f(t, y, c)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from noderun.models.block import MakeDynamics


class ConditionalVelocity(nn.Module):
    """f(t, y, c) of states y [B, ...] of D numbers and conditions c [B, C].

    It is made of dynamics of the vector [y, c], of which it returns the first D values: c is constant along a path.
    """

    def __init__(self, shape: tuple[int, ...], condition: int, make_dynamics: MakeDynamics) -> None:
        super().__init__()
        self.dim = math.prod(shape)
        self.net = make_dynamics((self.dim + condition,))

    def forward(self, t: Tensor, y: Tensor, c: Tensor) -> Tensor:
        return self.net(t, torch.cat([y.flatten(1), c], 1))[:, : self.dim].reshape(y.shape)
