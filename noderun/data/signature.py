"""Random walks, to be told apart by the sign of one term of their signature (Walker et al. 2024, section 6.1)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataError
from noderun.data.targets import Classes

CHANNELS, POINTS, TEST = 6, 100, 4000
WORD = (2, 5, 0, 3)  # the term of depth n is that of its first n channels, as in the paper


def signature(root: Path, augment: bool = False, *, depth: int = 3, examples: int = 20_000) -> Dataset:
    """Paths of 100 points in 6 channels at times from 0 to 1 and the sign of one signature term of ``depth`` 1 to 4.

    Increments are rounded standard normals, so that terms are whole numbers over depth! and known exactly; a path whose
    term is 0 is drawn again. The path is divided by 10, the root of its length, which makes it of size 1.
    """
    if augment:
        raise DataError("data.augment is for images; signature is made of paths")
    train, test = (labeled_paths(count, WORD[:depth], seed) for count, seed in ((examples, 0), (TEST, 1)))
    return Dataset("signature", (POINTS, CHANNELS), Classes(2), train, test)


def labeled_paths(count: int, word: tuple[int, ...], seed: int) -> Batch:
    """``count`` paths and whether their signature term is positive."""
    generator = torch.Generator().manual_seed(seed)
    spare = 64 + count // 8  # the term of depth 1 is 0 for one path in 26, the others for fewer
    drawn = torch.randn(count + spare, POINTS, CHANNELS, generator=generator).round()
    terms = signature_term(drawn[:, 1:].long(), word)
    kept = terms.nonzero().view(-1)[:count]
    paths = drawn[kept].cumsum(1) / math.sqrt(POINTS)
    times = torch.linspace(0, 1, POINTS).expand(len(kept), -1)
    return Batch(paths, (terms[kept] > 0).long(), times=times)


def signature_term(increments: Tensor, word: tuple[int, ...]) -> Tensor:
    """n! times the term of a ``word`` of n channels in the signature of paths with increments [B, K, C]: [B].

    By Chen's identity a straight piece with increment d changes the term S of the word w_1 ... w_n by
    sum_(j=1..n) S(w_1 ... w_(n-j)) d_(w_(n-j+1)) ... d_(w_n) / j!; with factors n! all numbers are whole if d is.
    """
    pieces = increments[..., list(word)].permute(1, 2, 0).contiguous()  # d [K, n, B]
    one = torch.ones_like(pieces[0, 0])
    terms = [one, *(torch.zeros_like(one) for _ in word)]
    for d in pieces:
        for m in range(len(word), 0, -1):  # the longest first: it needs the shorter ones as they were
            product = one
            for j in range(1, m + 1):
                product = product * d[m - j]
                terms[m] = terms[m] + math.comb(m, j) * terms[m - j] * product
    return terms[-1]
