"""Series whose observation times are themselves data: a Poisson process with a rate that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noderun.data.curves import drawn
from noderun.data.dataset import Dataset
from noderun.data.mechanics import of_system
from noderun.data.series import Records, padded
from noderun.data.system import System

SWING = 0.8  # of the rate about its mean, as a share of it


def point_process(
    root: Path,
    augment: bool = False,
    *,
    examples: int = 500,
    rate: float = 20.0,
    span: float = 2.0,
    noise: float = 0.1,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """cos(2 pi t) on [0, span], observed with noise at the times of a Poisson process of rate (1 + 0.8 sin(2 pi t)).

    The times are drawn by thinning (Lewis and Shedler 1979) and rounded to 1e-4; each series has at least two.
    """

    def true_rate(t: Tensor) -> Tensor:
        return rate * (1 + SWING * (2 * math.pi * t).sin())

    def draw(count: int, generator: torch.Generator) -> Records:
        most = rate * (1 + SWING)
        times = [thinned(most, span, true_rate, generator) for _ in range(count)]
        truth = [(2 * math.pi * t).cos().unsqueeze(1) for t in times]
        values = [x + noise * torch.randn(x.shape, generator=generator) for x in truth]
        return padded(values, times, truth=torch.nn.utils.rnn.pad_sequence(truth, batch_first=True))

    dataset = drawn("point_process", draw, examples, augment, task or "interpolate", **asked)
    return of_system(dataset, System(rate=true_rate))


def thinned(most: float, span: float, rate: Callable[[Tensor], Tensor], generator: torch.Generator) -> Tensor:
    """Rising times of a process of ``rate`` <= ``most`` on [0, span]."""
    while True:
        count = int(torch.poisson(torch.tensor(most * span), generator=generator))
        times = (span * torch.rand(count, generator=generator)).round(decimals=4).unique()
        count = len(times)
        kept = times[most * torch.rand(count, generator=generator) < rate(times)]
        if len(kept) > 1:
            return kept
