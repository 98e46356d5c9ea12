"""What acts at the edges of the epochs of a run, and may have a state of its own in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noderun.training.run import Run


class Callback:
    """Every hook does nothing here; a callback overrides those that it needs.

    ``state_dict`` holds plain values and tensors. ``load_state_dict`` is called before the weights are loaded, so a
    callback that changes the model can do so again.
    """

    def on_fit_start(self, run: Run) -> None:
        """Called before the first step, also when a run is resumed."""

    def on_epoch_start(self, run: Run) -> None:
        """Called before an epoch's first step, and before the rest of an epoch that was interrupted."""

    def on_test_end(self, run: Run) -> None:
        """Called after the test at an epoch's end, before the epoch counts as done."""

    def on_epoch_end(self, run: Run) -> Mapping[str, float | None]:
        """Called once the epoch counts as done; returns numbers by tag for its row of metrics.jsonl."""
        return {}

    def on_fit_end(self) -> None:
        """Called after the last checkpoint, and when the weights of a finished run are loaded."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass
