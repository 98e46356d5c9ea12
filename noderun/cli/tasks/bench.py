"""`noderun bench`: the same work by noderun, torchdiffeq, torchode and diffrax, in the same run."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from noderun.benchmarks.settings import NOT_IN_IDENTITY, typed
from noderun.cli.planning import Job, Plan, plan_one
from noderun.config.compose import Composer
from noderun.config.composed import resolved
from noderun.record import files, run_folder, run_identity

log = logging.getLogger(__name__)


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    """Raises ConfigError if the words are wrong."""
    return plan_one(composer, words, make_job, lambda job: None, "suite=all runs every suite")


def make_job(composer: Composer, overrides: Sequence[str]) -> Job:
    config, defaults = map(resolved, composer.known(overrides))
    settings = typed(config, defaults)
    unread = set() if settings.suite == "epoch" else {"data"}
    known = run_identity.identity(settings, typed(defaults, defaults), NOT_IN_IDENTITY | unread, {"suite", "device"})
    name = f"{settings.name or settings.suite}-{run_identity.digest(known)}"
    return Job(overrides=tuple(overrides), settings=settings, identity=known, run_id=name)


def work(job: Job, folder: Path) -> None:
    """Write bench.json, results.csv, tables.md and figures/, and log one line per case.

    Raises Incomplete at the end if something was not measured.
    """
    import torch

    from noderun.benchmarks.bench import Incomplete, run_suites, write
    from noderun.benchmarks.libraries import installed, peers, why_absent
    from noderun.training.build import make_device

    settings, threads = job.settings, torch.get_num_threads()
    said = [word for word in job.overrides if not word.startswith(("data.root=", "name=", "log="))]  # of this machine
    command = " ".join(["noderun bench", *said])
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    absent = [name for name, there in installed(settings.suite).items() if not there]
    for name in absent:
        log.warning("%s is absent: %s (pip install 'noderun[bench]')", name, why_absent(peers(settings.suite)[name]))
    try:
        device = str(make_device(settings.device))
        found = run_suites(settings, device, log.info)
        write(found, absent, device, command, folder)
    finally:
        torch.set_num_threads(threads)
    if found.failures:
        raise Incomplete(found.failures)


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    from noderun.report.cells import print_table
    from noderun.report.rows import headings_and_cells

    if run_folder.read_status(folder).get("status") != "running" and (folder / files.RESULTS).exists():
        with (folder / files.RESULTS).open(newline="") as file:
            rows = list(csv.DictReader(file))
        for suite in dict.fromkeys(row["suite"] for row in rows):
            print_table(*headings_and_cells([row for row in rows if row["suite"] == suite]))
        for path in sorted((folder / files.FIGURES).glob("*.png")):
            print(path)
