"""One call per row: metrics.jsonl, TensorBoard and the services that were asked for get the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from noderun.record import files
from noderun.record.metric import Metric
from noderun.record.metrics import Metrics, read_metrics
from noderun.record.services import MLflow, WeightsAndBiases
from noderun.record.tensorboard import TensorBoard


class Sink(Protocol):
    """Where rows go beside metrics.jsonl; made with the run's folder and its rows so far."""

    def describe(self, settings: Mapping[str, Any], yaml: str, metrics: Sequence[Metric]) -> None: ...

    def write(self, row: Mapping[str, float | None], step: int, epoch: int) -> None: ...

    def flush(self) -> None: ...

    def close(self, failed: bool) -> None: ...


SINKS: dict[str, Callable[[Path, Sequence[dict[str, Any]]], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Recorder:
    """Writes a run's rows into its folder; ``mark`` is what flush() returned for the checkpoint that is resumed."""

    def __init__(
        self, folder: Path, mark: Mapping[str, Any] | None = None, names: Sequence[str] = ("tensorboard",)
    ) -> None:
        self._metrics = Metrics(folder / files.METRICS, mark)
        earlier = list(read_metrics(folder / files.METRICS))
        self._sinks: list[Sink] = [SINKS[name](folder, earlier) for name in dict.fromkeys(names)]

    def describe(self, settings: Mapping[str, Any], yaml: str, metrics: Sequence[Metric]) -> None:
        for sink in self._sinks:
            sink.describe(settings, yaml, metrics)

    def log(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        self._metrics.write(row, step, epoch)
        for sink in self._sinks:
            sink.write(row, step, epoch)

    def flush(self) -> dict[str, Any]:
        """Brings every row to the files; returns the mark with which a checkpoint vouches for them."""
        for sink in self._sinks:
            sink.flush()
        return self._metrics.mark()

    def close(self, failed: bool = False) -> None:
        self._metrics.close()
        for sink in self._sinks:
            sink.close(failed)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self.close(failed=kind is not None)
