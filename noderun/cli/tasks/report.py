"""`noderun report FOLDER...`: figures and one self-contained page of a run, of a grid, or of runs side by side."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

from noderun.config.validation import ConfigError
from noderun.record import run_folder
from noderun.report.figures import draw_figures, names_of
from noderun.report.folders import Run, runs_of, told_apart_by
from noderun.report.style import also_as
from noderun.report.summary import report_grid, report_run, rows_of


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "noderun report", description="Figures and one self-contained report.html of a run, a sweep or a comparison."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a run, a grid, or several of them")
    parser.add_argument(
        "--figure", action="append", default=[], metavar="NAME", help=f"draw it alone: {', '.join(names_of('runs'))}"
    )
    parser.add_argument("--format", default="png", choices=("png", "pdf", "svg"), help="of figures, beside their PNG")
    chosen = parser.parse_args(words)
    with also_as(chosen.format):
        return report(chosen)


def report(chosen: argparse.Namespace) -> int:
    found = [run for folder in chosen.folders for run in runs_of(folder)]
    single = len(chosen.folders) == 1
    folder = chosen.folders[0] if single else side_by_side(found)
    if chosen.figure:  # the page, which shows all of them, stays as it is
        made = draw_figures(found, folder / "figures", chosen.figure)
    elif single and found[0].folder == folder:
        made = [report_run(found[0])]
    else:
        made = [report_grid(found, rows_of(folder, found), told_apart_by(found), folder)]
    for path in made:
        print(path.absolute())
    print(folder.absolute())
    return 0


def side_by_side(found: list[Run]) -> Path:
    """A folder of its own beside the runs; ConfigError if their errors cannot be compared."""
    data = sorted({run_folder.data_of(run.identity) for run in found})
    if len(data) > 1:
        raise ConfigError(f"these runs are of different data ({', '.join(data)}), so their errors cannot be compared")
    folders = sorted(str(run.folder.absolute()) for run in found)
    digest = hashlib.sha256("\n".join(folders).encode()).hexdigest()[:8]
    return Path(os.path.commonpath([Path(folder).parent for folder in folders])) / f"report-{digest}"
