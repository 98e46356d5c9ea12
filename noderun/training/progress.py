"""Where a run stands: all of its state that is neither weights, optimiser nor generators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from noderun.training.meters import Means, Number


@dataclass
class Progress:
    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs finished
    batch: int = 0  # batches done of the epoch under way
    deepened: int = 0  # times that the model's depth was doubled
    tested: int = -1  # step of the last evaluation
    logged: int = -1  # step of the last row in metrics.jsonl
    examples: int = 0
    training_seconds: float = 0.0
    test_seconds: float = 0.0
    peak_mib: float = 0.0
    window: Means = field(default_factory=Means)  # since the last row
    means: Means = field(default_factory=Means)  # from the epoch's first batch to the last row
    test: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float] = field(default_factory=dict)

    def begin_epoch(self) -> None:
        if self.batch == 0:
            self.means = Means()

    def advance(self, numbers: Mapping[str, Number | None], examples: int, seconds: float) -> None:
        self.window.add({**numbers, "examples": examples, "seconds": seconds})
        self.step += 1
        self.batch += 1
        self.examples += examples
        self.training_seconds += seconds

    def take_window(self) -> dict[str, float]:
        """Returns the means since the last row, speed included, and starts afresh."""
        row = self.window.values()
        if row:
            seconds, examples = row.pop("seconds"), row.pop("examples")
            row |= {"time/step_ms": 1000 * seconds, "time/examples_per_s": examples / seconds}
        self.means.merge(self.window)
        self.window = Means()
        return row

    def state_dict(self) -> dict[str, Any]:
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {"window": self.window.state_dict(), "means": self.means.state_dict()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        means = {name: Means.from_state(state[name]) for name in ("window", "means")}
        return cls(**{**state, **means})
