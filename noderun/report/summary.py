"""report.html of a run, or of the runs of a grid: its tables and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noderun.record import files, run_folder
from noderun.record.effort import remarks
from noderun.report.figures import FIGURES, draw_figures
from noderun.report.folders import Run, checked, read_csv
from noderun.report.page import Page
from noderun.report.paper_values import PAPERS, chen_table
from noderun.report.table import columns, comparison_cells, heading, over_seeds, run_rows, varying

Row = dict[str, Any]


def report_run(run: Run) -> Path:
    """Draws the run's figures beside it and writes its page, whose path it returns."""
    drawn = draw_figures([run], run.folder / files.FIGURES)
    page = Page(run.folder.name, f"{run.status}{f': {run.error}' if run.error else ''}")
    page.add_table(("", ""), [[(name, False), (value, False)] for name, value in run_rows(run.result)])
    for sentence in remarks(run.metrics).values():
        page.add_note(f"In this run {sentence}.")
    add_figures(page, [*drawn, *evaluated(run.folder)])
    page.add_heading("What it is")
    page.add_table(("setting", "value"), [[(key, False), (str(v), False)] for key, v in run.identity.items()])
    add_environment(page, run.folder)
    return page.write(run.folder / files.REPORT)


def report_grid(found: Sequence[Run], rows: Sequence[Row], swept: Sequence[str], folder: Path) -> Path:
    """Draws into ``folder`` and writes the page there, whose path it returns; ``rows`` are those of results.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw_figures(found, folder / files.FIGURES)
    page = Page(
        folder.name, f"{len(found)} runs; of every column the best is bold; mean ± standard deviation over seeds"
    )
    merged = over_seeds(rows, swept)
    keys = columns(merged, swept)
    page.add_table([heading(key) for key in keys], comparison_cells(merged, keys))
    experiment = experiment_of(found)
    if experiment in PAPERS or varying(rows, ("model", "gradient")):
        page.add_heading("Costs beside what is claimed of them")
        if experiment in PAPERS:
            page.add_note(paper_note(experiment, rows))
        page.add_table(*chen_table(rows, swept, experiment))
    add_figures(page, [*drawn, *evaluated(folder)])
    if found:
        add_environment(page, found[0].folder)
    return page.write(folder / files.REPORT)


def paper_note(experiment: str, rows: Sequence[Row]) -> str:
    paper = PAPERS[experiment]
    most = max((row.get("epochs") or 0 for row in rows), default=0)
    data = ", ".join(sorted({str(row["data"]) for row in rows if row.get("data")}))
    theirs = f"Columns named paper: {paper.source} ({paper.conditions})"
    return f"{theirs}. Ours: {data or 'no data'}, {most} epochs; a model that was not run has no number of ours."


def experiment_of(found: Sequence[Run]) -> str:
    """The experiment that all runs belong to; empty if there is none."""
    said = {str(run.words.get("experiment", "")) for run in found}
    return said.pop() if len(said) == 1 else ""


def rows_of(folder: Path, found: Sequence[Run]) -> list[Row]:
    """One row per run in the order of results.csv; its refused jobs, which have no folder, stay rows."""
    written = checked(folder / "results.csv", read_csv)
    rows = {run.folder.name: run.row() for run in found}
    before = {row.get("run"): row for row in written if row.get("status") == "refused" or row.get("run") in rows}
    return [rows.get(str(name), row) for name, row in before.items()] + [
        r for name, r in rows.items() if name not in before
    ]


def evaluated(folder: Path) -> list[Path]:
    """Figures that evaluations of a run or a grid have left."""
    found = [
        *sorted((folder / files.EVALUATE / files.FIGURES).glob("*.png")),
        *sorted(folder.glob("evaluate/*/figures/*.png")),
    ]
    return [path for path in found if path.resolve().is_relative_to(folder.resolve())]  # no link leads elsewhere


def add_figures(page: Page, paths: Sequence[Path]) -> None:
    if paths:
        page.add_heading("Figures")
    for path in paths:
        page.add_figure(path, FIGURES[path.stem].title if path.stem in FIGURES else path.stem.replace("_", " "))


def add_environment(page: Page, folder: Path) -> None:
    facts = checked(folder / "environment.json", run_folder.read_json)
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    device = facts.get("gpu") or "no GPU"
    page.add_note(
        f"{versions}; {facts.get('platform')}, {device}, {facts.get('threads')} threads; commit {facts.get('commit')}"
    )
