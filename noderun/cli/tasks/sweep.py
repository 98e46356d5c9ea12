"""`noderun sweep`: a grid of runs, then one table across it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noderun.cli.planning import Job, key_of
from noderun.record import files, run_folder


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    """Prints the table of what varies, after results.csv, figures and report.html were written."""
    from noderun.report.table import print_comparison

    print_comparison(write_grid(folder, jobs, swept), folder, swept)
    print(f"report: {folder / files.REPORT}")


def write_grid(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of results.csv; a refused or failed job is a row with its reason."""
    from noderun.report.folders import read_run
    from noderun.report.summary import report_grid
    from noderun.report.table import write_csv

    rows = [row(folder, job, swept) for job in jobs]
    write_csv(rows, folder / files.RESULTS)
    begun = [folder / job.run_id for job in jobs if not job.refusal]
    report_grid([read_run(path) for path in begun if (path / files.STATUS).is_file()], rows, swept, folder)
    return rows


def row(folder: Path, job: Job, swept: Sequence[str]) -> dict[str, Any]:
    from noderun.report.folders import as_number
    from noderun.training.result import chosen

    place = folder / job.run_id
    status, result = (
        ({}, {}) if job.refusal else (run_folder.read_status(place), run_folder.read_json(place / files.RESULT))
    )
    state = {"status": "refused" if job.refusal else status.get("status", "not started")}
    values = {key_of(word): as_number(word.partition("=")[2]) for word in job.overrides if key_of(word) in swept}
    reason = {"reason": job.refusal or status.get("error")}
    return {"run": job.run_id} | values | chosen(job.settings) | result | state | reason
