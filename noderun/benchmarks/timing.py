"""Timing: contenders take turns, each sample is long enough, and medians and spreads are kept."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Run = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds per call over the rounds."""

    median: float
    low: float
    high: float


def interleaved(contenders: Mapping[str, Run], rounds: int, seconds: float) -> dict[str, Timing]:
    """Time each contender once per round, in turns, so that the machine's drift affects all alike.

    A sample repeats the call until it lasts ``seconds``; how often is found in a first, uncounted round, which also
    warms every contender up.
    """
    calls = {name: calibrate(run, seconds) for name, run in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in contenders.items():
                samples[name].append(sample(run, calls[name]))
    finally:
        gc.enable()
    return {name: Timing(statistics.median(s), min(s), max(s)) for name, s in samples.items()}


def once(contenders: Mapping[str, Run]) -> dict[str, Timing]:
    """A single call each."""
    spent = {name: sample(run, 1) for name, run in contenders.items()}
    return {name: Timing(each, each, each) for name, each in spent.items()}


def calibrate(run: Run, seconds: float) -> int:
    """The number of calls that take ``seconds``."""
    run()
    calls = 1
    while (spent := sample(run, calls) * calls) < seconds / 2:
        calls = max(2 * calls, int(0.7 * calls * seconds / max(spent, 1e-9)))
    return max(1, round(calls * seconds / spent))


def sample(run: Run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize()
    return (time.perf_counter() - start) / calls


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
