"""Fully connected dynamics on the flattened state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from noderun.dynamics.activations import activation as named


class MLP(nn.Module):
    """``layers`` linear maps, all but the last followed by ``activation`` and the last by ``output``.

    With ``time`` the first map sees t before the state. y [B, ...] may have any shape; t is 0-dim or [B, 1, ...].
    """

    def __init__(
        self,
        state_shape: tuple[int, ...],
        hidden: int = 64,
        layers: int = 3,
        activation: str = "tanh",
        time: bool = True,
        output: str = "identity",
    ) -> None:
        super().__init__()
        self.time = time
        size = math.prod(state_shape)
        widths = [size + time, *[hidden] * (layers - 1), size]
        parts: list[nn.Module] = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            parts += [nn.Linear(inputs, outputs), named(activation)]
        self.net = nn.Sequential(*parts[:-1], named(output))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        h = y.flatten(1)
        if self.time:
            h = torch.cat([t.reshape(-1, 1).expand(len(h), 1).to(h), h], dim=1)
        return self.net(h).reshape(y.shape)
