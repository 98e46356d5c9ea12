"""`noderun bench`: this engine beside its peers, same work, same run."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

from omegaconf import DictConfig

from noderun import runs
from noderun.compose import Composer, resolved
from noderun.jobs import Job, Plan, plan_one
from noderun.settings import Count, Device, FolderName
from noderun.tasks.job import run_job
from noderun.words import Where, as_type

log = logging.getLogger(__name__)
Suite = Literal["all", "solve", "gradient", "training", "startup"]


@dataclass(frozen=True)
class Settings:
    suite: Suite = "all"
    rounds: Count = 5
    seconds: Annotated[float, Where(lambda x: x > 0, "a number above 0")] = 0.2
    quick: bool = False
    threads: Count | None = None
    device: Device = "auto"
    log: Literal["live", "plain", "quiet"] = "live"
    name: FolderName | None = None
    fresh: bool = True
    seed: int = 0


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    """Raises SettingError where the words are wrong."""
    return plan_one(composer, words, make_job, "suite=all runs every suite")


def make_job(composer: Composer, overrides: Sequence[str]) -> Job:
    hints, values = get_type_hints(Settings, include_extras=True), resolved(composer.known(overrides)[0])
    names = [f.name for f in fields(Settings) if f.name in values]
    settings = Settings(**{name: as_type(hints[name], values[name], name) for name in names})
    identity = {key: value for key, value in asdict(settings).items() if key not in ("log", "fresh", "name")}
    name = f"{settings.name or settings.suite}-{runs.digest(identity)}"
    return Job(overrides=tuple(overrides), settings=settings, identity=identity, run_id=name)


def bench(config: DictConfig) -> str:
    return run_job(config, make_job, lambda job, folder: measure(job.settings, folder))


def measure(settings: Settings, folder: Path) -> None:
    """Writes bench.json, results.csv and figures/ratios.png, a line to the log for each case."""
    import torch

    from noderun.benchmarks.bench import run_suites, write
    from noderun.benchmarks.peers import installed
    from noderun.build import make_device

    threads = torch.get_num_threads()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    absent = [name for name, there in installed().items() if not there]
    if absent:
        log.warning("absent: %s (pip install 'noderun[bench]')", ", ".join(absent))
    try:
        device = str(make_device(settings.device))
        rows = run_suites(settings.suite, device, settings.rounds, settings.seconds, settings.quick, log.info)
        write(rows, absent, device, folder)
    finally:
        torch.set_num_threads(threads)


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    from noderun.report.rows import rows_table
    from noderun.report.table import print_table

    if runs.read_status(folder).get("status") == "done":
        with (folder / "results.csv").open(newline="") as file:
            print_table(rows_table(list(csv.DictReader(file))))
        for path in sorted((folder / "figures").glob("*.png")):
            print(path)
