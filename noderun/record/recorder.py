"""One call per row: metrics.jsonl and TensorBoard get the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.record import files
from noderun.record.metric import Metric
from noderun.record.metrics import Metrics
from noderun.record.tensorboard import TensorBoard


class Recorder:
    """Writes a run's rows into its folder; ``mark`` is what flush() returned for the checkpoint that is resumed."""

    def __init__(self, folder: Path, mark: Mapping[str, Any] | None = None) -> None:
        self._metrics = Metrics(folder / files.METRICS, mark)
        self._tensorboard = TensorBoard(folder, mark["step"] if mark else -1)

    def describe(self, config: Mapping[str, Any], yaml: str, metrics: Sequence[Metric]) -> None:
        self._tensorboard.describe(config, yaml, metrics)

    def log(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        self._metrics.write(row, step, epoch)
        self._tensorboard.write(row, step, epoch)

    def flush(self) -> dict[str, Any]:
        """Brings every row to the files; returns the mark with which a checkpoint vouches for them."""
        self._tensorboard.flush()
        return self._metrics.mark()

    def close(self) -> None:
        self._metrics.close()
        self._tensorboard.close()
