"""The convolutional dynamics of Dupont et al. 2019: 1x1, 3x3 and 1x1 convolutions without norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.dynamics.conv import require_map


class ConvAnode(nn.Module):
    """C to ``hidden`` to ``hidden`` to C channels with ReLU in between; with ``time`` t is one more input of each."""

    def __init__(self, state_shape: tuple[int, ...], hidden: int = 92, time: bool = False) -> None:
        super().__init__()
        channels = require_map("conv_anode", state_shape)
        self.time = time
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs + time, outputs, kernel, padding=kernel // 2)
            for inputs, outputs, kernel in ((channels, hidden, 1), (hidden, hidden, 3), (hidden, channels, 1))
        )

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            h = torch.relu(y) if i else y
            y = conv(torch.cat([t.expand_as(h[:, :1]), h], dim=1) if self.time else h)
        return y
