"""Tracking services beside TensorBoard, each behind the same four calls; their packages are optional.

Rows are sent when a checkpoint vouches for them, so a run that is resumed sends none twice. A service that fails is
left with one warning: it is no reason to lose a training. Where a service lies is its own matter: WANDB_MODE=offline,
MLFLOW_TRACKING_URI=...
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.record import files
from noderun.record.metric import Metric
from noderun.record.run_folder import read_json, write_json
from noderun.record.tensorboard import as_scalars

log = logging.getLogger(__name__)
PROJECT = "noderun"
Row = tuple[int, dict[str, float]]  # step, finite numbers by tag


class Service:
    """Keeps the rows between two flushes; a service defines ``start``, ``describe_run``, ``send`` and ``end``."""

    name: str

    def __init__(self, folder: Path, earlier: Sequence[Any] = ()) -> None:
        self.rows: list[Row] = []
        self.alive = True
        self.resumed = bool(earlier)
        self.attempt(self.take_up, folder)

    def take_up(self, folder: Path) -> None:
        known = read_json(folder / files.SERVICES)
        begun = self.start(folder, known.get(self.name) if self.resumed else None)
        write_json(folder / files.SERVICES, known | {self.name: begun})

    def start(self, folder: Path, known: str | None) -> str:
        """Begin a run there, or go on with the one of the id ``known``; returns its id."""
        raise NotImplementedError

    def describe_run(self, settings: Mapping[str, Any]) -> None:
        """Send the settings by dotted key."""
        raise NotImplementedError

    def send(self, rows: Sequence[Row]) -> None:
        raise NotImplementedError

    def end(self, failed: bool) -> None:
        raise NotImplementedError

    def describe(self, settings: Mapping[str, Any], yaml: str, metrics: Sequence[Metric]) -> None:
        if not self.resumed:
            self.attempt(self.describe_run, as_scalars(settings))

    def write(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        finite = {tag: value for tag, value in row.items() if value is not None and math.isfinite(value)}
        self.rows.append((step, finite | {"epoch": epoch}))

    def flush(self) -> None:
        rows, self.rows = self.rows, []
        self.attempt(self.send, rows)

    def close(self, failed: bool) -> None:
        self.attempt(self.end, failed)

    def attempt(self, call: Callable[..., None], *arguments: Any) -> None:
        """Leave the service at its first error, with a warning; after that nothing is sent any more."""
        if not self.alive:
            return
        try:
            call(*arguments)
        except Exception as error:
            self.alive = False
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            log.warning("%s records no more of this run: %s", self.name, reason)


class WeightsAndBiases(Service):
    name = "wandb"

    def start(self, folder: Path, known: str | None) -> str:
        import wandb

        self.run = wandb.init(
            project=PROJECT,
            group=folder.parent.name,
            name=folder.name,
            dir=str(folder),
            id=known,
            resume="allow",
            settings=wandb.Settings(console="off"),  # the terminal is ours
        )
        return str(self.run.id)

    def describe_run(self, settings: Mapping[str, Any]) -> None:
        self.run.config.update(dict(settings))

    def send(self, rows: Sequence[Row]) -> None:
        for step, numbers in rows:
            self.run.log(numbers, step=step)

    def end(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class MLflow(Service):
    name = "mlflow"
    most = 100  # parameters that one call may log

    def start(self, folder: Path, known: str | None) -> str:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        if known is not None:
            self.client.update_run(known, status="RUNNING")
            self.id = known
        else:
            experiment = self.client.get_experiment_by_name(PROJECT)
            place = experiment.experiment_id if experiment else self.client.create_experiment(PROJECT)
            self.id = self.client.create_run(place, run_name=folder.name).info.run_id
        return self.id

    def describe_run(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in settings.items()]
        for i in range(0, len(params), self.most):
            self.client.log_batch(self.id, params=params[i : i + self.most])

    def send(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric as Point

        now = int(1e3 * time.time())
        for step, numbers in rows:
            self.client.log_batch(self.id, metrics=[Point(tag, value, now, step) for tag, value in numbers.items()])

    def end(self, failed: bool) -> None:
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")
