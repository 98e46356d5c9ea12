"""Convolutions whose output is gated and shifted by time: the concatsquash layers of FFJORD (Grathwohl et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.dynamics.activations import activation as named
from noderun.dynamics.conv import require_map


class SquashConv2d(nn.Module):
    """conv3x3(x) sigmoid(a t + b) + c t with a, b, c per channel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.gate = nn.Linear(1, outputs)
        self.shift = nn.Linear(1, outputs, bias=False)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        t = t.reshape(-1, 1)
        gate, shift = torch.sigmoid(self.gate(t)), self.shift(t)
        return self.conv(x) * gate[:, :, None, None] + shift[:, :, None, None]


class ConvSquash(nn.Module):
    """``layers`` such convolutions with ``activation`` in between, for a state y [B, C, H, W]."""

    def __init__(
        self, state_shape: tuple[int, ...], hidden: int = 64, layers: int = 3, activation: str = "softplus"
    ) -> None:
        super().__init__()
        channels = require_map("conv_squash", state_shape)
        widths = [channels, *[hidden] * (layers - 1), channels]
        self.layers = nn.ModuleList(SquashConv2d(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))
        self.activation = named(activation)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            y = layer(t, self.activation(y) if i else y)
        return y
