"""`noderun train`: one run, then its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from noderun import runs
from noderun.jobs import Job
from noderun.tasks.job import run_job


def train(config: DictConfig) -> str:
    return run_job(config)


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    from noderun.report.table import print_run

    result = runs.read_json(folder / "result.json")
    if runs.read_status(folder).get("status") == "done":
        print_run(result, folder)
