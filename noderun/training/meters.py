"""Means over batches, kept on the device until somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

Number = float | Tensor


class Means:
    """Weighted running means of named numbers.

    Tensors are summed on their own device, so that adding one never waits for it; values() does.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Number] = {}
        self._weights: dict[str, float] = {}

    def add(self, numbers: Mapping[str, Number | None], weight: float = 1.0) -> None:
        """Adds one batch's numbers; None is a number that the method does not have."""
        for name, number in numbers.items():
            if number is None:
                continue
            value = number.detach().double() if isinstance(number, Tensor) else float(number)
            self._sums[name] = self._sums.get(name, 0.0) + value * weight
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def values(self) -> dict[str, float]:
        return {name: float(total) / self._weights[name] for name, total in self._sums.items()}

    def total(self, name: str) -> float:
        return float(self._sums.get(name, 0.0))

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {k: float(v) for k, v in self._sums.items()}, "weights": dict(self._weights)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Means:
        means = cls()
        means._sums, means._weights = dict(state["sums"]), dict(state["weights"])
        return means


def solve_numbers(statistics: Iterable[Any]) -> dict[str, float | None]:
    """One batch's solver statistics, summed over a model's blocks, under the tags of metrics.jsonl."""
    blocks = list(statistics)

    def total(field: Callable[[Any], Any]) -> float | None:
        counts = [float(count) for b in blocks if (count := field(b)) is not None]
        return sum(counts) if counts else None

    return {
        "nfe/forward": total(lambda s: s.nfe_forward),
        "nfe/backward": total(lambda s: s.nfe_backward),
        "steps/accepted": total(lambda s: s.accepted),
        "steps/rejected": total(lambda s: s.rejected),
    }
