"""noderun's sweeper: grids that were planned, checked and named beforehand (Hydra finds plugins in this place only)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Grid(Sweeper):
    """Launches ``planned``: the words of each job with its folder's name. A failed job leaves the others alone."""

    planned: ClassVar[Sequence[Sequence[str]]] = ()

    def __init__(self, params: Any) -> None:
        pass  # the default grid, which the planner has read

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.folder = Path(config.hydra.sweep.dir)
        self.jobs = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.jobs.launch([list(words) for words in self.planned], initial_job_idx=0)
