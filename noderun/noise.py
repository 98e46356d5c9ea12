"""Random numbers that are a function of (seed, index, position): the same in any order, batch, process and device.

splitmix64 (Steele, Lea and Flood 2014) as a counter-based generator: the bits at a position are a hash of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # int64 products and sums wrap, as those of the paper's unsigned words do
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def normal(seed: int, index: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers [B, *shape], those of a row a function of (seed, index[row]) alone; index is int64 [B].

    >>> whole = normal(0, torch.arange(4), (2,))
    >>> torch.equal(normal(0, torch.tensor([3, 1]), (2,)), whole[[3, 1]])
    True
    """
    return torch.special.ndtri(uniform(seed, index, shape)).to(dtype)


def rademacher(seed: int, index: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """-1 or 1 [B, *shape] with equal probability, as a function of (seed, index)."""
    return 1 - 2 * (bits(seed, index, shape) < 0).to(dtype)


def uniform(seed: int, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """float64 [B, *shape] between 0 and 1, both exclusive, as a function of (seed, index)."""
    return (_shifted(bits(seed, index, shape), 11).double() + 0.5) * 2.0**-53


def bits(seed: int, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """64 random bits each, as int64 [B, *shape]."""
    positions = torch.arange(1, math.prod(shape) + 1, device=index.device)
    streams = _mixed(index + _mixed(torch.tensor(seed, device=index.device)))
    return _mixed(streams[:, None] + GOLDEN * positions).reshape(len(index), *shape)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, places: int) -> Tensor:
    """x >> places of an unsigned word: int64 repeats the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)
