"""Stems, which make the state of a net from its input, and heads, which make the output from the state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from noderun.dynamics.conv import group_norm
from noderun.models.residual import ResidualBlock

SMALLEST = 3  # pixels: a stem halves a map twice, but not below this (an 8x8 digit is halved once)


def make_stem(name: str | None, shape: tuple[int, ...], width: int) -> tuple[nn.Module, tuple[int, ...]]:
    """The stem for examples of this shape, and the shape of the state that it makes (both without batch dimension).

    None is a convolutional stem of images and no stem of points.
    """
    name = name or ("none" if len(shape) == 1 else "conv")
    if name not in STEMS:
        raise ValueError(f"no stem {name!r}; there are: {', '.join(STEMS)}")
    stem = STEMS[name](shape, width)
    with torch.no_grad():
        return stem, tuple(stem(torch.zeros(1, *shape)).shape[1:])


def make_head(state_shape: tuple[int, ...], outputs: int, name: str = "pool", channels: int | None = None) -> nn.Module:
    """A state to [B, outputs]; head ``none`` is the state itself (its first ``channels``).

    ``pool`` is GN-ReLU-average-Linear for a map [C, H, W] and Linear for a vector [D]; ``flatten`` is one Linear of
    the whole state.
    """
    if name not in HEADS:
        raise ValueError(f"no head {name!r}; there are: {', '.join(HEADS)}")
    if name == "none":
        return Truncate(channels or state_shape[0])
    if len(state_shape) == 1:
        return nn.Linear(state_shape[0], outputs)
    if name == "flatten":
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(state_shape), outputs))
    width = state_shape[0]
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(group_norm(width), nn.ReLU(), pool, nn.Flatten(), nn.Linear(width, outputs))


class Augment(nn.Module):
    """Appends ``extra`` zero dimensions or channels to a state [B, C, ...] (Dupont et al. 2019)."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, y: Tensor) -> Tensor:
        return torch.cat([y, y.new_zeros(len(y), self.extra, *y.shape[2:])], dim=1)


class Truncate(nn.Module):
    """The first ``count`` dimensions or channels of a state [B, C, ...]: the output if nothing is learned."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, y: Tensor) -> Tensor:
        return y[:, : self.count]


def _conv(shape: tuple[int, ...], width: int) -> nn.Module:
    parts: list[nn.Module] = [_first(shape, width)]
    for _ in range(_halvings(shape)):
        parts += [group_norm(width), nn.ReLU(), nn.Conv2d(width, width, 4, stride=2, padding=1)]
    return nn.Sequential(*parts)


def _residual(shape: tuple[int, ...], width: int) -> nn.Module:
    return nn.Sequential(_first(shape, width), *(ResidualBlock(width, stride=2) for _ in range(_halvings(shape))))


def _linear(shape: tuple[int, ...], width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.Sigmoid())


def _none(shape: tuple[int, ...], width: int) -> nn.Module:
    return nn.Identity()


def _first(shape: tuple[int, ...], width: int) -> nn.Conv2d:
    if len(shape) == 1:
        raise ValueError(f"a convolutional stem needs images, got points of {shape[0]}; leave model.stem out")
    if len(shape) != 3 or min(shape[1:]) < SMALLEST + 2:
        raise ValueError(f"a convolutional stem needs images [C, H, W] from 5x5, got {list(shape)}; try stem=linear")
    return nn.Conv2d(shape[0], width, 3)


def _halvings(shape: tuple[int, ...]) -> int:
    after_first = min(shape[1:]) - 2
    return min(2, int(math.log2(after_first / SMALLEST)))


HEADS = ("pool", "flatten", "none")
STEMS = {"conv": _conv, "residual": _residual, "linear": _linear, "none": _none}
