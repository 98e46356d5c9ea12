"""`noderun bench`: this engine beside its peers, same work, same run."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from noderun import runs
from noderun.benchmarks.settings import Settings, typed
from noderun.compose import Composer, UnknownKey, known_keys, resolved, sources, unresolved
from noderun.tasks.job import guarded
from noderun.words import SettingError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    overrides: tuple[str, ...]
    settings: Settings
    identity: dict[str, Any]
    refusal: str | None = None

    @property
    def run_id(self) -> str:
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.settings.name or self.settings.suite}-{digest}"


@dataclass(frozen=True)
class Plan:
    jobs: list[Job]
    hydra_overrides: list[str]
    swept: tuple[str, ...] = ()
    name: str = ""


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    """Raises SettingError where the words are wrong."""
    parsed = composer.parse(words)
    swept = [override.input_line for override in parsed if override.is_sweep_override()]
    if swept:
        raise SettingError(f"{swept[0]} has several values, bench takes one; suite=all runs every suite")
    job = make_job(composer, [str(o.input_line) for o in parsed if not o.is_hydra_override()])
    return Plan([job], [str(o.input_line) for o in parsed if o.is_hydra_override()])


def make_job(composer: Composer, overrides: Sequence[str]) -> Job:
    config = composer.compose(overrides)
    defaults = composer.defaults(config.hydra.runtime.choices)
    for key in sorted(unresolved(config).keys() - unresolved(defaults).keys()):
        raise UnknownKey(key, known_keys(defaults))
    settings = typed(resolved(config), resolved(defaults))
    return Job(tuple(overrides), settings, settings.identity())


def bench(config: DictConfig) -> str:
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml", resolve=True)
    job = make_job(Composer(str(hydra.job.config_name), sources(hydra.runtime.config_sources)), hydra.overrides.task)
    if job.settings.fresh:
        runs.clear(folder)
    if runs.read_status(folder).get("status") == "done":
        log.info("%s is done already (fresh=true starts over)", folder.name)
        return "done"
    settings = job.settings
    said = [word for word in job.overrides if not word.startswith(("data.root=", "name=", "log="))]  # of this machine
    command = " ".join(["noderun bench", *said])
    return guarded(lambda: measure(settings, command, folder), cast(Any, settings), job.identity, folder)


def measure(settings: Settings, command: str, folder: Path) -> None:
    """Writes bench.json, results.csv, tables.md and figures/, a line to the log for each case."""
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
        found = run_suites(settings, device, log.info)
        write(found, absent, device, command, folder)
    finally:
        torch.set_num_threads(threads)


def finish(folder: Path, jobs: Sequence[Job], swept: Sequence[str]) -> None:
    from noderun.report.rows import rows_table
    from noderun.report.table import print_table

    if runs.read_status(folder).get("status") == "done":
        with (folder / "results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for suite in dict.fromkeys(row["suite"] for row in rows):
            print_table(rows_table([row for row in rows if row["suite"] == suite]))
        for path in sorted((folder / "figures").glob("*.png")):
            print(path)
