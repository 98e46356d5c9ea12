"""An empty place to run command lines in, and training that trains nothing."""

import logging
import sys

import pytest

from noderun.ode.solvers import StepLimit
from noderun.record import run_folder
from noderun.training import build


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder; what Hydra does to the process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield tmp_path
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def trained(monkeypatch):
    """The settings of the runs that were trained; training itself is left out."""
    seen = []

    def train_run(settings, folder, callbacks):
        seen.append(settings)
        if settings.seed == 7:
            raise StepLimit("10 steps did not reach the end; try solver.max_steps=100", 0.5, 10)
        if settings.seed == 8:
            raise KeyError("a bug")
        if settings.seed == 9:
            raise KeyboardInterrupt
        run_folder.write_json(
            folder / "result.json", {"epochs": settings.trainer.epochs, "steps": 5, "test_error": 0.5}
        )

    monkeypatch.setattr(build, "train_run", train_run)
    return seen
