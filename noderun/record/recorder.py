"""One call a row: metrics.jsonl and TensorBoard get the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noderun.record import files
from noderun.record.metrics import Metrics
from noderun.record.tensorboard import TensorBoard


class Recorder:
    """Writes a run's rows into its folder; ``last_step`` is the last row that a resumed run stands by."""

    def __init__(self, folder: Path, last_step: int = -1) -> None:
        self._metrics = Metrics(folder / files.METRICS, last_step)
        self._tensorboard = TensorBoard(folder, last_step)

    def describe(self, config: Mapping[str, Any], yaml: str) -> None:
        self._tensorboard.describe(config, yaml)

    def log(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        self._metrics.write(row, step, epoch)
        self._tensorboard.write(row, step, epoch)

    def flush(self) -> None:
        """Brings every row to the files: to be called before a checkpoint that vouches for them."""
        self._tensorboard.flush()

    def close(self) -> None:
        self._metrics.close()
        self._tensorboard.close()
