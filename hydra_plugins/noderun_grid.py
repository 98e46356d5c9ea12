"""noderun's sweeper: grids that were planned, checked and named beforehand (Hydra finds plugins in this place only)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Grid(Sweeper):
    """Launches ``planned``: the words of each job with its folder's name. A failed job leaves the others alone.

    ``queued`` are those that a cluster goes on with when the command has ended. ``command`` is left in the folder.
    """

    planned: ClassVar[Sequence[tuple[str, ...]]] = ()
    queued: ClassVar[Collection[tuple[str, ...]]] = ()
    command: ClassVar[str] = ""

    def __init__(self, params: Any) -> None:
        pass  # the default grid, which the planner has read

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher_of = partial(Plugins.instance().instantiate_launcher, hydra_context, config=config)
        self.run_job: Any = task_function

    def sweep(self, arguments: list[str]) -> Any:
        """Runs all jobs, then those that other processes were at work on, as soon as these have left them."""
        from noderun.cli.tasks.job import BUSY, QUEUED
        from noderun.record import run_folder

        jobs = [list(words) for words in self.planned]
        launcher = self.launcher_of(self.run_job)
        self.folder.mkdir(parents=True, exist_ok=True)
        with run_folder.locked(self.folder, wait=True):
            run_folder.write_command(self.folder, self.command)
        returned: Any = launcher.launch(jobs, initial_job_idx=0)
        states = {words: job.return_value for words, job in zip(self.planned, returned, strict=True)}
        Grid.queued = [words for words, state in states.items() if state == QUEUED]
        busy = [list(words) for words, state in states.items() if state == BUSY]
        if busy:
            self.launcher_of(replace(self.run_job, wait=True)).launch(busy, initial_job_idx=len(jobs))
        return returned
