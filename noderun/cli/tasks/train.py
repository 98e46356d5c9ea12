"""`noderun train`: one run, then its table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from noderun.cli.planning import Job
from noderun.record import files, run_folder

SHOWN = 12  # operations of a profile


def work(job: Job, folder: Path) -> None:
    from noderun.evaluation.epochs import RowsByEpoch
    from noderun.training.build import train_run

    train_run(job.settings, folder, [RowsByEpoch(job.settings.trainer.diagnostics_every)])


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    from noderun.report.figures import title_of
    from noderun.report.table import print_run

    result = run_folder.read_json(folder / files.RESULT)
    if run_folder.read_status(folder).get("status") == "done":
        print_run(result, folder)
        if jobs[0].settings.trainer.profile and (folder / files.PROFILE).is_file():
            print_profile(folder / files.PROFILE)
        for path in draw_seen(folder):
            print(f"{title_of(path)}: {path}")


def print_profile(path: Path) -> None:
    """The operations that took most of the watched steps' time."""
    from noderun.report.cells import print_table
    from noderun.report.rows import headings_and_cells

    with path.open(newline="") as file:
        print_table(*headings_and_cells(list(csv.DictReader(file))[:SHOWN]))
    print(path)


def draw_seen(folder: Path) -> list[Path]:
    """The figures of what was seen of the model epoch by epoch."""
    from noderun.report.figures import draw_figures
    from noderun.report.folders import read_run

    seen = [path.stem for path in sorted((folder / files.FIGURES).glob("*_by_epoch.csv"))]
    return draw_figures([read_run(folder)], folder / files.FIGURES, seen) if seen else []
