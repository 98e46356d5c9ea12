"""One call per row: metrics.jsonl and TensorBoard get the same numbers, and a resumed run's rows again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.record import files
from noderun.record.metric import Metric
from noderun.record.metrics import Metrics, read_metrics
from noderun.record.tensorboard import TensorBoard


class Recorder:
    """Writes a run's rows into its folder; ``mark`` is what flush() returned for the checkpoint that is resumed.

    TensorBoard's file is written anew from the rows of ``mark``: a kill or a power cut may have torn the earlier one.
    """

    def __init__(self, folder: Path, mark: Mapping[str, Any] | None = None) -> None:
        self._metrics = Metrics(folder / files.METRICS, mark)
        earlier = list(folder.glob(files.EVENTS))
        self._tensorboard = TensorBoard(folder)
        for row in read_metrics(folder / files.METRICS):
            self._tensorboard.write(row, row.pop("step"), row.pop("epoch"))
        self._tensorboard.flush()
        for path in earlier:
            path.unlink()

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
