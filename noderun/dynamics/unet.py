"""A U-Net as vector field (Ronneberger et al. 2015): down, up, and skips in between; time enters every block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noderun.dynamics.conv import group_norm, require_map
from noderun.dynamics.time import TimeEmbedding

SMALLEST = 2  # pixels: a map is halved while that leaves so many, since a norm over single values is constant


class TimedBlock(nn.Module):
    """x + conv(SiLU(GN(conv(SiLU(GN(x))) + shift(time)))), the sum's x by a 1x1 convolution where widths differ."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(inputs), nn.Conv2d(inputs, width, 3, padding=1)
        self.shift = nn.Linear(width, width)
        self.norm2, self.conv2 = group_norm(width), nn.Conv2d(width, width, 3, padding=1)
        self.skip = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.shift(time)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class UNet(nn.Module):
    """f(t, y) for a state y [B, C, H, W], at most ``levels`` times halved; ``width`` channels throughout."""

    def __init__(self, state_shape: tuple[int, ...], width: int = 32, levels: int = 2) -> None:
        super().__init__()
        channels, halvings = require_map("unet", state_shape), 0
        size = min(state_shape[1:])
        while halvings < levels and -(-size // 2) >= SMALLEST and size > SMALLEST:
            size, halvings = -(-size // 2), halvings + 1
        self.time = TimeEmbedding(width)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.falling = nn.ModuleList(TimedBlock(width, width) for _ in range(halvings))
        self.halve = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(halvings))
        self.bottom = TimedBlock(width, width)
        self.rising = nn.ModuleList(TimedBlock(2 * width, width) for _ in range(halvings))
        self.last = nn.Sequential(group_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        time = self.time(t)
        h, skips = self.first(y), []
        for block, halve in zip(self.falling, self.halve, strict=True):
            skips.append(block(h, time))
            h = halve(skips[-1])
        h = self.bottom(h, time)
        for block, skip in zip(self.rising, reversed(skips), strict=True):
            h = block(torch.cat([F.interpolate(h, size=skip.shape[2:]), skip], dim=1), time)
        return self.last(h)
