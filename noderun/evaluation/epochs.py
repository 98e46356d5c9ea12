"""Rows of the model's figures at several epochs, kept beside the run's figures for `report` to draw."""

from __future__ import annotations

import logging
from pathlib import Path

from noderun.evaluation.depth import ROWS
from noderun.record import files
from noderun.report.figures import FIGURES, names_of
from noderun.report.folders import read_csv
from noderun.report.table import write_csv
from noderun.training.setup import Setup

log = logging.getLogger(__name__)


def watch(setup: Setup, epoch: int, folder: Path) -> None:
    """Append this epoch's rows to figures/NAME_by_epoch.csv, dropping those of later epochs from before a restart."""
    setup.model.eval()
    for name in [name for name in names_of("model") if FIGURES[name].panel]:
        try:
            rows = ROWS[name](setup)
        except ValueError:  # this model or these data have no such picture
            continue
        except Exception as error:  # a picture is no reason to lose a training
            log.warning("%s of epoch %d were not seen: %s", name, epoch, error)
            continue
        path = folder / files.FIGURES / f"{name}_by_epoch.csv"
        path.parent.mkdir(exist_ok=True)
        earlier = [row for row in read_csv(path) if row["epoch"] < epoch]
        with files.replacing(path) as new:
            write_csv([*earlier, *({"epoch": epoch} | row for row in rows)], new)
