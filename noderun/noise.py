"""Random numbers that belong to an example, and not to the process that draws them.

Most are a function of (seed, index, position): the same in any order, batch, process and device. splitmix64 (Steele,
Lea and Flood 2014) is the counter-based generator: the bits at a position are a hash of it. Where that would cost a
training step more than a few percent, ``for_batch`` draws by torch's generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # int64 products and sums wrap, as those of the paper's unsigned words do
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
SHARE: ContextVar[tuple[int, slice] | None] = ContextVar("SHARE", default=None)  # the size of a batch, the rows at hand


@contextmanager
def shared(size: int, rows: slice) -> Iterator[None]:
    """Inside, the examples at hand are these rows of a batch of ``size``, whose others other processes have."""
    before = SHARE.set((size, rows))
    try:
        yield
    finally:
        SHARE.reset(before)


def for_batch(draw: Callable[..., Tensor], shape: Sequence[int], like: Tensor, dim: int = 0) -> Tensor:
    """``draw(shape)`` by torch's generator, with a row for each example at hand along ``dim``, or K times one.

    Of several processes each draws for the whole batch and keeps its rows: together they draw what one draws alone.
    """
    share = SHARE.get()
    if share is None:
        return draw(*shape, device=like.device, dtype=like.dtype)
    size, rows = share
    repeats = shape[dim] // (rows.stop - rows.start)
    whole = draw(*shape[:dim], repeats, size, *shape[dim + 1 :], device=like.device, dtype=like.dtype)
    return whole.narrow(dim + 1, rows.start, rows.stop - rows.start).flatten(dim, dim + 1)


def next_seed() -> int:
    """A seed by torch's generator on the host, which is in the same state in all processes of a run."""
    return int(torch.randint(2**62, ()))


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


class NormalPairs:
    """Normal numbers [K, 2, N] of the K ``variances``, a function of (streams[n], counters[k]); streams is int64 [N].

    Each stream is a splitmix64 generator, read at any counter. A word gives a radius by its upper and an angle by its
    lower half, and these a pair of numbers: Box, Muller 1958. ``members`` are those of the pair that are wanted. All
    is made in buffers that are kept, because new memory would cost as much as the numbers; ``normal`` takes ten times
    as long.
    """

    def __init__(self, streams: Tensor, dtype: torch.dtype) -> None:
        self.streams, self.dtype = streams, dtype
        self.buffers: list[Tensor] = []

    @torch.inference_mode(False)  # what one mode makes and keeps may be used in the other
    def __call__(
        self, counters: Sequence[int], variances: Sequence[float], members: tuple[int, ...] = (0, 1)
    ) -> Tensor:
        words, shifted, halves, radius, angle = self.sized(len(counters))
        device = self.streams.device
        at = torch.tensor([_signed(counter * GOLDEN) for counter in counters], device=device)
        scale = torch.tensor([-2 * v for v in variances], dtype=self.dtype, device=device).unsqueeze(1)
        torch.add(self.streams, at.unsqueeze(1), out=words)
        for places, factor in ((30, FIRST), (27, SECOND)):
            words.bitwise_xor_(_unsigned_shift(words, places, shifted)).mul_(factor)
        # The last shift may keep the sign: it clears bit 63 and at most inverts the 31 bits below, as random as before.
        words.bitwise_xor_(torch.bitwise_right_shift(words, 31, out=shifted))
        angle.copy_(halves.copy_(words)).mul_(2 * math.pi * 2.0**-32)
        radius.copy_(halves.copy_(words.bitwise_right_shift_(32))).add_(0.5).mul_(2.0**-31)
        radius.log_().mul_(scale).sqrt_()
        pairs = radius.new_empty(len(counters), len(members), len(self.streams))
        for place, member in enumerate(members):
            (torch.sin if member else torch.cos)(angle, out=pairs[:, place]).mul_(radius)
        return pairs

    def sized(self, count: int) -> list[Tensor]:
        """The buffers for ``count`` words per stream."""
        if not self.buffers or len(self.buffers[0]) < count:
            shape = (count, len(self.streams))
            types = (torch.int64, torch.int64, torch.int32, self.dtype, self.dtype)
            self.buffers = [torch.empty(shape, dtype=kind, device=self.streams.device) for kind in types]
        return [buffer[:count] for buffer in self.buffers]


def _unsigned_shift(x: Tensor, places: int, out: Tensor) -> Tensor:
    """``_shifted`` into ``out``."""
    return torch.bitwise_right_shift(x, places, out=out).bitwise_and_((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    """The int64 with the lower 64 bits of a number."""
    return (word + 2**63) % 2**64 - 2**63


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, places: int) -> Tensor:
    """x >> places of an unsigned word: int64 repeats the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)
