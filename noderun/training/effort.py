"""Says once in a run that its solves have become dear, and what makes them cheap."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noderun.record.effort import BACKWARD, FORWARD, remarks
from noderun.training.callbacks import Callback

if TYPE_CHECKING:
    from noderun.training.run import Run

log = logging.getLogger(__name__)


class Effort(Callback):
    """Compares each epoch's evaluations of f, forwards and backwards, with those of the first epoch."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.said: list[str] = []  # what the run was told

    def on_epoch_end(self, run: Run) -> Mapping[str, float | None]:
        means = run.progress.means.values()
        row = {tag: means[tag] for tag in (FORWARD, BACKWARD) if tag in means}
        self.first = self.first or row
        for kind, sentence in remarks([self.first, row]).items():
            if kind not in self.said:
                self.said.append(kind)
                log.warning("epoch %d: %s", run.progress.in_epoch, sentence)
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "said": self.said}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first, self.said = state["first"], state["said"]
