"""One training run inside Hydra: skipped, begun or taken up; its state is always on disk."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from noderun import jobs, runs, user_code
from noderun.compose import Composer, sources
from noderun.settings import Settings

log = logging.getLogger(__name__)


def run_job(config: DictConfig) -> str:
    """Trains what a job's configuration says, in the folder that Hydra made for it; returns the run's state."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    folders = sources(hydra.runtime.config_sources)
    user_code.search_in([*folders, hydra.runtime.cwd])
    OmegaConf.save(config, folder / ".hydra" / "config.yaml", resolve=True)
    composer = Composer(str(hydra.job.config_name), folders)
    job = jobs.job_of(composer, config, hydra.runtime.choices, hydra.overrides.task)
    return run(job.settings, job.identity, folder)


def run(settings: Settings, identity: dict[str, Any], folder: Path) -> str:
    if settings.fresh:
        runs.clear(folder)
    if runs.is_done(folder, settings):
        log.info("%s is done already (fresh=true starts over)", folder.name)
        return "done"
    return guarded(lambda: train(settings, folder), settings, identity, folder)


def guarded(work: Callable[[], object], settings: Settings, identity: dict[str, Any], folder: Path) -> str:
    """Does the work of a run and returns its state, which status.json tells all the while."""
    runs.write_status(folder, "running", identity)
    runs.write_environment(folder, settings)
    try:
        status, error = attempted(work, folder)
    except KeyboardInterrupt:
        runs.write_status(folder, "interrupted", identity)
        log.warning("interrupted; the same command goes on from where it stopped")
        raise
    runs.write_status(folder, status, identity, error)
    return status


def train(settings: Settings, folder: Path) -> None:
    from noderun.build import train_run
    from noderun.evaluation.epochs import watch

    train_run(settings, folder, watch)


def attempted(work: Callable[[], object], folder: Path) -> tuple[str, str | None]:
    try:
        work()
        return "done", None
    except Exception as error:
        sentence = str(error).strip() or type(error).__name__
        if is_told(error):
            log.error("%s", sentence)
            with (folder / "run.log").open("a") as file:
                file.write(traceback.format_exc())
        else:
            log.exception("this should not have happened: %s", sentence)
        return "failed", sentence


def is_told(error: Exception) -> bool:
    """Whether the sentence says it all: errors of a solve, of data, and values that our own code refused."""
    from noderun.data import DataError
    from noderun.solvers import SolveError

    if isinstance(error, SolveError | DataError | OSError):
        return True
    ours = str(Path(__file__).parent.parent)
    return isinstance(error, ValueError) and traceback.extract_tb(error.__traceback__)[-1].filename.startswith(ours)
