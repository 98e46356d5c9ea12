"""Running means over batches, computed only when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Number = float | Tensor


class RunningMeans:
    """Weighted running means of named numbers.

    Tensors (0-dim) wait as they are, so that adding one costs no operation and never waits for its device.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._waiting: dict[str, list[tuple[Tensor, float]]] = {}

    def add(self, numbers: Mapping[str, Number | None], weight: float = 1.0) -> None:
        """Add one batch's numbers; None is a number that the method does not have."""
        for name, number in numbers.items():
            if number is None:
                continue
            if isinstance(number, Tensor):
                self._waiting.setdefault(name, []).append((number.detach(), weight))
            else:
                self._sums[name] = self._sums.get(name, 0.0) + number * weight
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def merge(self, other: RunningMeans) -> None:
        """Add everything that the other holds."""
        for name, total in other._settled().items():
            self._sums[name] = self._sums.get(name, 0.0) + total
            self._weights[name] = self._weights.get(name, 0.0) + other._weights[name]

    def values(self) -> dict[str, float]:
        return {name: total / self._weights[name] for name, total in self._settled().items()}

    def total(self, name: str) -> float:
        return self._settled().get(name, 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._settled()), "weights": dict(self._weights)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RunningMeans:
        means = cls()
        means._sums, means._weights = dict(state["sums"]), dict(state["weights"])
        return means

    def _settled(self) -> dict[str, float]:
        """Synchronize once and fold the waiting tensors into the sums.

        In double precision and one after another, so that the result does not depend on when it is read.
        """
        for name, waiting in self._waiting.items():
            numbers = torch.stack([number for number, _ in waiting]).tolist()
            for number, (_, weight) in zip(numbers, waiting, strict=True):
                self._sums[name] = self._sums.get(name, 0.0) + number * weight
        self._waiting = {}
        return self._sums


def mean(count: Number) -> Number:
    return count.double().mean() if isinstance(count, Tensor) else float(count)


def quotient(count: float, seconds: float) -> float | None:
    """Count per second; None if the clock stood still."""
    return count / seconds if seconds > 0 else None


def solve_numbers(statistics: Iterable[Any]) -> dict[str, Number | None]:
    """One batch's solver statistics, summed over a model's blocks, under the tags of metrics.jsonl.

    Samples that are solved each by itself count as their mean. A block that solved nothing has None.
    """
    blocks = [block for block in statistics if block is not None]

    def total(field: Callable[[Any], Any]) -> Number | None:
        counts = [mean(count) for b in blocks if (count := field(b)) is not None]
        return sum(counts) if counts else None

    return {
        "nfe/forward": total(lambda s: s.nfe_forward),
        "nfe/backward": total(lambda s: s.nfe_backward),
        "steps/accepted": total(lambda s: s.accepted),
        "steps/rejected": total(lambda s: s.rejected),
    }
