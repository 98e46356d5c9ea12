"""One job inside Hydra: skipped, begun or taken up; its state is always on disk."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from noderun.cli.planning import AnyJob, Job, make_job
from noderun.config import user_code
from noderun.config.compose import Composer, sources
from noderun.record import files, run_folder

log = logging.getLogger(__name__)


def run_job(
    config: DictConfig,
    make: Callable[[Composer, list[str]], AnyJob],
    work: Callable[[AnyJob, Path], object],
    is_done: Callable[[Path, Any], bool] = lambda folder, settings: (
        run_folder.read_status(folder).get("status") == "done"
    ),
) -> str:
    """Does a job's work in the folder that Hydra made for it, unless that is done already; returns its state."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with run_folder.alone(folder):
            job = made(config, folder, make)
            if is_done(folder, job.settings):
                log.info("%s is done already (fresh=true starts over)", folder.name)
                return "done"
            return guarded(lambda: work(job, folder), job, folder)
    except run_folder.FolderInUse as busy:
        log.error("%s", busy)
        return "busy"


def made(config: DictConfig, folder: Path, make: Callable[[Composer, list[str]], AnyJob]) -> AnyJob:
    """The job, typed again (it may be another process), its configuration on disk; a fresh start finds nothing else."""
    hydra = HydraConfig.get()
    folders = sources(hydra.runtime.config_sources)
    user_code.search_in([*folders, hydra.runtime.cwd])
    OmegaConf.save(config, folder / files.HYDRA / "config.yaml", resolve=True)
    job = make(Composer(str(hydra.job.config_name), folders), list(hydra.overrides.task))
    if job.settings.fresh:
        run_folder.clear(folder)
    return job


def guarded(work: Callable[[], object], job: Job, folder: Path) -> str:
    """Does the work and returns how it ended, which status.json tells all the while."""
    run_folder.write_status(folder, "running", job.identity)
    run_folder.write_environment(folder, job.settings)
    try:
        status, error = attempted(work, folder)
    except KeyboardInterrupt:
        run_folder.write_status(folder, "interrupted", job.identity)
        again = "starts over" if job.settings.fresh else "goes on from where it stopped"
        log.warning("interrupted; the same command %s", again)
        raise
    run_folder.write_status(folder, status, job.identity, error)
    return status


def train_job(config: DictConfig) -> str:
    """A training run: begun, taken up, or skipped where it is as long as asked for."""
    return run_job(config, make_job, train, run_folder.is_done)


def train(job: Job, folder: Path) -> None:
    from noderun.evaluation.epochs import RowsByEpoch
    from noderun.training.build import train_run

    train_run(job.settings, folder, [RowsByEpoch(job.settings.trainer.diagnostics_every)])


def attempted(work: Callable[[], object], folder: Path) -> tuple[str, str | None]:
    """How the work ended; whatever it changed of the process, the next job finds as it was."""
    import torch

    from noderun.training.isolation import isolated

    try:
        with isolated(torch.device("cpu")):
            work()
        return "done", None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a part of the user's that says sys.exit() ends its own job, never the others
        sentence = reason(error)
        if is_told(error):
            log.error("%s", sentence)
            with (folder / files.LOG).open("a") as file:
                file.write(traceback.format_exc())
        else:
            log.exception("this should not have happened: %s", sentence)
        return "failed", sentence


def reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"a part of the run called sys.exit({'' if error.code is None else repr(error.code)})"
    return str(error).strip() or type(error).__name__


def is_told(error: BaseException) -> bool:
    """Whether the sentence says it all: errors of a solve, of data, and values that our own code refused."""
    from noderun.data import DataError
    from noderun.ode.solvers import SolveError

    if isinstance(error, SolveError | DataError | OSError | SystemExit):
        return True
    ours = str(Path(__file__).parents[2])
    return isinstance(error, ValueError) and traceback.extract_tb(error.__traceback__)[-1].filename.startswith(ours)
