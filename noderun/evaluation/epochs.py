"""Rows of the model's figures at several epochs, kept beside the run's figures for `report` to draw."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.evaluation.rows import ROWS
from noderun.record import files
from noderun.report.figures import FIGURES, names_of
from noderun.report.table import write_rows
from noderun.training.callbacks import Callback
from noderun.training.run import Run
from noderun.training.setup import Setup

log = logging.getLogger(__name__)


class RowsByEpoch(Callback):
    """Writes rows before the first epoch, after every ``every`` epochs and at the end; never if ``every`` is 0."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_fit_start(self, run: Run) -> None:
        if self.every and run.progress.step == 0:
            self.write(run, 0)

    def on_epoch_end(self, run: Run) -> Mapping[str, float | None]:
        epoch = run.progress.in_epoch
        if self.every and (run.ended or epoch % self.every == 0):
            self.write(run, epoch)
        return {}

    def write(self, run: Run, epoch: int) -> None:
        with run.aside():
            write_pictures(run.setup, epoch, run.folder)


def write_pictures(setup: Setup, epoch: int, folder: Path) -> None:
    """Append this epoch's rows to figures/NAME_by_epoch.csv, dropping rows of later epochs from before a restart."""
    setup.model.eval()
    for name in [name for name in names_of("model") if FIGURES[name].panel]:
        try:
            rows = ROWS[name](setup)
        except ValueError:  # this model or these data have no such picture
            continue
        except Exception as error:  # a picture is no reason to lose a training
            log.warning("%s of epoch %d was not written: %s", name, epoch, error)
            continue
        path = folder / files.FIGURES / f"{name}_by_epoch.csv"
        path.parent.mkdir(exist_ok=True)
        append([{"epoch": epoch} | row for row in rows], epoch, path)


def append(rows: Sequence[Mapping[str, Any]], epoch: int, path: Path) -> None:
    """Write rows behind the lines of earlier epochs, which stay text: there may be thousands per epoch."""
    new_lines = io.StringIO(newline="")
    write_rows(rows, new_lines)
    head, body = new_lines.getvalue().split("\n", 1)
    earlier = path.read_bytes().decode().splitlines(keepends=True)[1:] if path.is_file() else []
    kept = [line for line in earlier if int(line.partition(",")[0]) < epoch]
    with files.replacing(path) as new:
        new.write_bytes("".join([f"{head}\n", *kept, body]).encode())
