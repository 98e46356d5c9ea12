"""report.html of a run, or of the runs of a grid: its tables and its figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noderun.record import files, run_identity
from noderun.record.effort import remarks
from noderun.report import told
from noderun.report.figures import draw_figures, title_of
from noderun.report.folders import Run, checked, read_csv
from noderun.report.page import Page
from noderun.report.paper_values import PAPERS, chen_table
from noderun.report.rows import headings_and_cells
from noderun.report.table import columns, comparison_cells, heading, over_seeds, run_rows, varying

Row = dict[str, Any]


def report_run(run: Run) -> Path:
    """Draws the run's figures beside it and writes its page, whose path it returns."""
    page = begun(told.named(run), [run], told.command_of(run))
    page.add_note(f"{run.status}{f': {run.error}' if run.error else ''}")
    figures = run.folder / files.FIGURES
    if "lab.name" in run.identity:
        rows = [{key: as_text(value) for key, value in row.items()} for row in results_of(run.folder)]
        page.add_table(*headings_and_cells(rows))
        for path in sorted(figures.glob("*.png")):
            page.add_figure(path, path.stem.replace("_", " ").capitalize(), run.folder)
    else:
        page.add_table(("", ""), [[(name, False), (value, False)] for name, value in run_rows(run.result)])
        for sentence in remarks(run.metrics).values():
            page.add_note(f"In this run {sentence}.")
        add_figures(page, [*draw_figures([run], figures), *evaluated(run.folder)], run.folder)
    return ended(page, [run], run.folder)


def report_grid(found: Sequence[Run], rows: Sequence[Row], swept: Sequence[str], folder: Path) -> Path:
    """Draws into ``folder`` and writes the page there, whose path it returns; ``rows`` are those of results.csv.

    Errors on different sets of data are not comparable: each set has its own tables and figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = begun(told.title(found, swept), found, told.grids_command(folder))
    parts = by_data(found, rows)
    for data, (runs, lines) in parts.items():
        if len(parts) > 1:
            page.add_heading(data)
        place = folder / files.FIGURES / (re.sub(r"[^\w.=-]+", "-", data) if len(parts) > 1 else "")
        add_results(page, lines, swept, experiment_of(found))
        add_figures(page, draw_figures(runs, place), folder)
    add_figures(page, evaluated(folder), folder)
    return ended(page, found, folder)


def by_data(found: Sequence[Run], rows: Sequence[Row]) -> dict[str, tuple[list[Run], list[Row]]]:
    """Runs and rows by their set of data; a refused job, which has no folder, goes by the name of its set."""
    parts: dict[str, tuple[list[Run], list[Row]]] = {}
    data: dict[tuple[str, str], str] = {}
    for run in found:
        of = data[run.folder.name, str(run.identity.get("data.name"))] = run_identity.data_of(run.identity)
        parts.setdefault(of, ([], []))[0].append(run)
    for row in rows:
        name = str(row.get("data"))
        parts.setdefault(data.get((str(row.get("run")), name), name), ([], []))[1].append(row)
    return parts


def add_results(page: Page, rows: Sequence[Row], swept: Sequence[str], experiment: str) -> None:
    """The table across runs, and where models or gradient methods differ the one of costs and claims."""
    merged = over_seeds(rows, swept)
    keys = columns(merged, swept)
    page.add_table([heading(key) for key in keys], comparison_cells(merged, keys))
    seeds = "; mean ± standard deviation over as many runs as the column seeds says" if "seeds" in keys else ""
    page.add_note(f"Of every column the best is bold{seeds}.")
    if experiment in PAPERS or varying(rows, ("model", "gradient")):
        page.add_heading("Measured costs beside claimed ones", 3)
        if experiment in PAPERS:
            page.add_note(paper_note(experiment, rows))
        page.add_table(*chen_table(rows, swept, experiment))


def begun(title: str, found: Sequence[Run], command: str) -> Page:
    page = Page(title, told.dates(found))
    if command:
        page.add_command(command)
    return page


def ended(page: Page, found: Sequence[Run], folder: Path) -> Path:
    """Adds the settings and the machine, and writes the page."""
    if found:
        page.add_heading("Settings")
        if len(found) > 1:
            page.add_note("In brackets: the values of a setting that is not the same in all runs.")
        page.add_table(*told.settings_table(found))
        add_environment(page, found[0])
    return page.write(folder / files.REPORT)


def paper_note(experiment: str, rows: Sequence[Row]) -> str:
    paper = PAPERS[experiment]
    most = max((row.get("epochs") or 0 for row in rows), default=0)
    data = ", ".join(sorted({str(row["data"]) for row in rows if row.get("data")}))
    theirs = f"Columns of the paper: {paper.source} ({paper.conditions})"
    return f"{theirs}. Ours: {data or 'no data'}, {most} epochs; a model that was not run has no number of ours."


def experiment_of(found: Sequence[Run]) -> str:
    """The experiment that all runs belong to; empty if there is none."""
    said = {str(run.words.get("experiment", "")) for run in found}
    return said.pop() if len(said) == 1 else ""


def rows_of(folder: Path, found: Sequence[Run]) -> list[Row]:
    """One row per run in the order of results.csv; its refused jobs, which have no folder, stay rows."""
    rows = {run.folder.name: run.row() for run in found if run.folder.parent == folder}
    before = {
        row.get("run"): row for row in results_of(folder) if row.get("status") == "refused" or row.get("run") in rows
    }
    new = [run.row() for run in found if run.folder.parent != folder or run.folder.name not in before]
    return [rows.get(str(name), row) for name, row in before.items()] + new


def results_of(folder: Path) -> list[Row]:
    return checked(folder / files.RESULTS, read_csv)


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


def evaluated(folder: Path) -> list[Path]:
    """Figures that evaluations of a run or a grid have left."""
    found = [
        *sorted((folder / files.EVALUATE / files.FIGURES).glob("*.png")),
        *sorted(folder.glob("evaluate/*/figures/*.png")),
    ]
    return [path for path in found if path.resolve().is_relative_to(folder.resolve())]  # no link leads elsewhere


def add_figures(page: Page, paths: Sequence[Path], folder: Path) -> None:
    """Each with what it shows and, if it is of a measurement, which one."""
    for path in paths:
        cell = path.parent.parent
        tested = f" ({cell.name})" if cell.parent.name == files.EVALUATE else ""
        page.add_figure(path, f"{title_of(path)}{tested}", folder)


def add_environment(page: Page, run: Run) -> None:
    facts = run.environment
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    device = facts.get("gpu") or "no GPU"
    page.add_note(
        f"{versions}; {facts.get('platform')}, {device}, {facts.get('threads')} threads; commit {facts.get('commit')}"
    )
