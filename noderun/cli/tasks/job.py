"""One job inside Hydra: skipped, started or resumed; its state is always on disk."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from noderun.cli.planning import Job
from noderun.config import user_code
from noderun.record import files, run_folder
from noderun.record.terminal import of_job
from noderun.report.style import also_as

BUSY = "busy"  # the state of a job that another process is at work on
QUEUED = "queued"  # of one that a cluster will start, or has started
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobRunner:
    """The task function that Hydra calls, with the jobs as they were planned.

    A launcher that starts other processes pickles it, so every job is composed and typed once, wherever it runs.
    """

    jobs: Mapping[Path, Job]  # by folder
    work: Callable[[Any, Path], object]
    code_folders: Sequence[str]  # where a user's ``class:`` is looked up
    swept: Sequence[str] = ()
    wait: bool = False  # for another process to leave the folder
    seconds: list[float] = field(default_factory=list, compare=False)  # of each job that this process has done

    def __call__(self, config: DictConfig) -> str:
        """Do a job's work in the folder that Hydra made for it, unless it is done already; return its state."""
        folder = Path(HydraConfig.get().runtime.output_dir)
        job = self.jobs[folder]
        user_code.search_in(self.code_folders)
        logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
        try:
            with run_folder.locked(folder, self.wait):
                OmegaConf.save(config, folder / files.HYDRA / "config.yaml", resolve=True)
                if job.settings.fresh:
                    run_folder.clear(folder)
                if job.is_done(folder):
                    log.info("%s is done already (fresh=true starts over)", self.name(folder))
                    return "done"
                run_folder.write_status(folder, "running", job.identity)  # status.json says so throughout
                run_folder.write_environment(folder, job.settings, job.identity)
                with self.counted(folder), also_as(job.settings.figure_format):
                    return guarded(lambda: self.work(job, folder), job, folder)
        except run_folder.FolderInUse as busy:
            log.info("%s", busy)
            return BUSY
        except OSError as error:
            log.error("%s", reason(error, folder))
            return "failed"

    @contextmanager
    def counted(self, folder: Path) -> Iterator[None]:
        """Say which job of a grid begins, and how long the grid still takes if its jobs go on like those so far."""
        number, count = self.position(folder)
        if count > 1:
            each = sum(self.seconds) / len(self.seconds) if self.seconds else 0
            left = f", about {duration(each * (count - number + 1))} left" if self.seconds else ""
            log.info("%s%s", self.name(folder), left)
        start = time.monotonic()
        with of_job(f"{number}/{count}" if count > 1 else ""):
            yield
        self.seconds.append(time.monotonic() - start)

    def name(self, folder: Path) -> str:
        """`job 3/8: seed=2`; of a run that is no grid's job the name of its folder."""
        number, count = self.position(folder)
        return f"job {number}/{count}: {self.jobs[folder].label(self.swept)}" if count > 1 else folder.name

    def position(self, folder: Path) -> tuple[int, int]:
        """The number of a job, from 1, and how many there are."""
        folders = [place for place, job in self.jobs.items() if not job.refusal]
        return folders.index(folder) + 1, len(folders)


def duration(seconds: float) -> str:
    """`40 s`, `3 min` or `2 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def guarded(work: Callable[[], object], job: Job, folder: Path) -> str:
    """Do the work and return how it ended, which status.json then says."""
    try:
        status, error = attempted(work, folder)
    except KeyboardInterrupt:
        with suppress(OSError):
            run_folder.write_status(folder, "interrupted", job.identity)
        again = "starts over" if job.settings.fresh else "goes on from where it stopped"
        log.warning("interrupted; the same command %s", again)
        raise
    try:
        run_folder.write_status(folder, status, job.identity, error)
    except OSError:
        if error is None:
            raise
    return status


def attempted(work: Callable[[], object], folder: Path) -> tuple[str, str | None]:
    """Do the work, return how it ended, and restore what it changed of the process for the next job."""
    import torch

    from noderun.training.isolation import isolated

    try:
        with isolated(torch.device("cpu")):
            work()
        return "done", None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a part of the user's that says sys.exit() ends its own job, never the others
        sentence = reason(error, folder)
        if is_told(error):
            log.error("%s", sentence)
            with suppress(OSError), (folder / files.LOG).open("a") as file:
                file.write(traceback.format_exc())
        else:
            log.exception("this should not have happened: %s", sentence)
        return "failed", sentence


def reason(error: BaseException, folder: Path) -> str:
    if isinstance(error, SystemExit):
        return f"a part of the run called sys.exit({'' if error.code is None else repr(error.code)})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or folder}: {error.strerror}; what was saved before is whole"
    return str(error).strip() or type(error).__name__


def is_told(error: BaseException) -> bool:
    """Whether the sentence is enough without a traceback: errors of a solve, of data, and our own refusals."""
    from noderun.data import DataError
    from noderun.ode.solvers import SolveError

    if isinstance(error, SolveError | DataError | OSError | SystemExit):
        return True
    ours = str(Path(__file__).parents[2])
    return isinstance(error, ValueError) and traceback.extract_tb(error.__traceback__)[-1].filename.startswith(ours)
