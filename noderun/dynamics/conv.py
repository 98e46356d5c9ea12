"""The convolutional dynamics of Chen et al. 2018, as in torchdiffeq's examples/odenet_mnist.py."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """In 32 groups, or the most below that which divide the channels (an augmented state may have any number)."""
    return nn.GroupNorm(next(n for n in range(32, 0, -1) if channels % n == 0), channels)


def require_map(dynamics: str, state_shape: tuple[int, ...]) -> int:
    """The channels of a state [C, H, W]; ValueError for any other state."""
    if len(state_shape) != 3:
        raise ValueError(f"dynamics {dynamics} needs a state [C, H, W], got {list(state_shape)}; choose dynamics=mlp")
    return state_shape[0]


class TimeConv2d(nn.Conv2d):
    """conv3x3([t, x]) with t as an extra first channel; the parameters are those of Conv2d(channels + 1, channels, 3).

    Convolution is linear and the channel of t is constant, so conv([t, x]) = conv_x(x) + t conv_t(1), where the second
    map [1, C, H, W] is the same for the whole batch: nothing is concatenated.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels + 1, channels, kernel_size=3, padding=1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        ones = x.new_ones(1, 1, *x.shape[2:])
        of_time = F.conv2d(ones, self.weight[:, :1], padding=1)
        return F.conv2d(x, self.weight[:, 1:], self.bias, padding=1) + t * of_time


class Conv(nn.Module):
    """f(t, y) = GN-ReLU-conv, twice, then GN, for a state y [B, C, H, W]; t is 0-dim or broadcasts to y."""

    def __init__(self, state_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels = require_map("conv", state_shape)
        self.norm1 = group_norm(channels)
        self.conv1 = TimeConv2d(channels)
        self.norm2 = group_norm(channels)
        self.conv2 = TimeConv2d(channels)
        self.norm3 = group_norm(channels)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        h = self.conv1(t, F.relu(self.norm1(y)))
        h = self.conv2(t, F.relu(self.norm2(h)))
        return self.norm3(h)
