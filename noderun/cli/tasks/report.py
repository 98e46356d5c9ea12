"""`noderun report FOLDER...`: figures and one self-contained page of a run, of a grid, or of runs side by side."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

from noderun.config.validation import ConfigError, warn_user
from noderun.record import files, run_identity
from noderun.report.figures import draw_figures, names_of
from noderun.report.folders import Run, runs_of, settings_apart
from noderun.report.style import also_as
from noderun.report.summary import report_grid, report_run, rows_of


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "noderun report",
        description="Figures and one self-contained report.html of a run, a grid, or all runs in some folders.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a run, a grid, or any folder of runs")
    parser.add_argument(
        "--figure", action="append", default=[], metavar="NAME", help=f"draw it alone: {', '.join(names_of('runs'))}"
    )
    parser.add_argument("--format", default="png", choices=("png", "pdf", "svg"), help="of figures, beside their PNG")
    return parser


def main(words: list[str]) -> int:
    chosen = parser().parse_args(words)
    with also_as(chosen.format):
        return report(chosen)


def report(chosen: argparse.Namespace) -> int:
    found = [run for folder in chosen.folders for run in runs_of(folder)]
    single = len(chosen.folders) == 1
    folder = chosen.folders[0] if single else side_by_side(found)
    if chosen.figure:  # the page, which shows all of them, stays as it is
        made = draw_figures(of_one_data_set(found), folder / files.FIGURES, chosen.figure)
    elif single and found[0].folder == folder:
        made = [report_run(found[0])]
    else:
        found = comparable(found)
        made = [report_grid(found, rows_of(folder, found), settings_apart(found), folder)]
    for path in made:
        print(path.absolute())
    print(folder.absolute())
    return 0


def comparable(found: list[Run]) -> list[Run]:
    """The runs that were trained; ConfigError if there are none."""
    trained = [run for run in found if "model.name" in run.identity]
    if not trained:
        raise ConfigError(
            "none of these folders holds a trained run; the report of one measurement is that of its folder"
        )
    if len(trained) < len(found):
        warn_user(f"{len(found) - len(trained)} of {len(found)} runs trained nothing and are left out")
    return trained


def of_one_data_set(found: list[Run]) -> list[Run]:
    """The runs; ConfigError if their errors cannot be compared in one figure."""
    data = sorted({run_identity.data_of(run.identity) for run in found})
    if len(data) > 1:
        raise ConfigError(f"these runs are of different data ({', '.join(data)}), so one figure cannot compare them")
    return found


def side_by_side(found: list[Run]) -> Path:
    """A folder of its own beside the runs."""
    folders = sorted(str(run.folder.absolute()) for run in found)
    digest = hashlib.sha256("\n".join(folders).encode()).hexdigest()[:8]
    return Path(os.path.commonpath([Path(folder).parent for folder in folders])) / f"report-{digest}"
