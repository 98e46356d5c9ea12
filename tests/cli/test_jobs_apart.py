"""Jobs of one sweep share a process: what one does to it, or how one ends, is nothing to the others."""

import csv
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from noderun.cli.main import main
from noderun.cli.tasks.job import attempted
from noderun.config.schema import Data, Dynamics, Gradient, Model, Optimizer, Scheduler, Settings, Solver, Trainer
from noderun.training.build import train_run
from noderun.training.compatibility import check

MODULE = """
import os
import sys
import warnings

import numpy as np
import torch
from torch import nn


SEEN = []


class Clean(nn.Module):
    def __init__(self, state_shape):
        super().__init__()
        SEEN.append(torch.get_default_dtype())
        self.net = nn.Linear(state_shape[0], state_shape[0])

    def forward(self, t, y):
        return torch.tanh(self.net(y))


class Untidy(Clean):
    def forward(self, t, y):
        torch.set_num_threads(3)
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_default_dtype(torch.float64)
        torch.set_flush_denormal(True)
        torch.manual_seed(1)
        np.seterr(all="raise")
        warnings.simplefilter("ignore")
        os.chdir("/")
        torch.set_grad_enabled(False)
        return super().forward(t, y)


class Quitting(Clean):
    def __init__(self, state_shape, code):
        super().__init__(state_shape)
        self.code = code

    def forward(self, t, y):
        sys.exit(self.code)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder with the module; what Hydra does to the process is undone."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "untidy_parts", raising=False)
    (tmp_path / "untidy_parts.py").write_text(MODULE)
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)


def job(name, **options):
    return Settings(
        data=Data("moons", batch_size=32, options={"examples": 64}),
        model=Model(
            "odenet", takes=("vector",), uses=("dynamics", "solver", "gradient"), options={"stem": "none", "augment": 0}
        ),
        optimizer=Optimizer("adamw"),
        scheduler=Scheduler("constant"),
        trainer=Trainer(epochs=1),
        dynamics=Dynamics(name.lower(), options=options, user_class=f"untidy_parts:{name}"),
        solver=Solver("dopri5"),
        gradient=Gradient("adjoint"),
        device="cpu",
        log="quiet",
    )


def run(place, *jobs):
    """Each job as the process of a sweep does it: how it ended, and its folder."""
    ended = []
    for number, settings in enumerate(jobs):
        folder = place / f"{len(list(place.iterdir()))}-{number}"
        folder.mkdir()
        ended.append((*attempted(lambda s=settings, f=folder: train_run(s, f), folder), folder))
    return ended


def test_a_job_that_is_untidy_changes_no_other_in_either_order(place):
    clean, untidy = job("Clean"), job("Untidy")
    ended = [run(place, clean)[0], run(place, untidy, clean)[1], run(place, clean, untidy)[0], run(place, clean)[0]]
    assert [status for status, _, _ in ended] == ["done"] * 4
    weights = [torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for _, _, folder in ended]
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=0)
    assert Path.cwd() == place and torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


def test_what_a_module_sets_when_it_is_imported_holds_for_its_own_jobs_alone(place):
    (place / "double_parts.py").write_text(MODULE + "\n\ntorch.set_default_dtype(torch.float64)\n")
    sys.modules.pop("double_parts", None)
    clean = job("Clean")
    double = replace(clean, dynamics=Dynamics("double", user_class="double_parts:Clean"))
    for settings in (double, clean):
        check(settings, frozenset())  # as a sweep is planned: every module is imported before the first job
    assert torch.get_default_dtype() == torch.float32
    run(place, clean, double, clean, double)
    assert sys.modules["untidy_parts"].SEEN == [torch.float32] * 2
    assert sys.modules["double_parts"].SEEN == [torch.float64] * 2


@pytest.mark.parametrize(("code", "said"), [(0, "0"), (3, "3"), (None, ""), ("enough", "'enough'")])
def test_a_job_that_leaves_the_process_has_failed(code, said, place):
    (status, error, folder), (other, _, _) = run(place, job("Quitting", code=code), job("Clean"))
    assert (status, error) == ("failed", f"a part of the run called sys.exit({said})") and other == "done"
    assert "untidy_parts.py" in (folder / "run.log").read_text()


def test_a_sweep_goes_on_after_a_job_that_leaves_the_process(place, monkeypatch):
    monkeypatch.setattr("noderun.report.summary.report_grid", lambda *arguments: None)  # seconds of figures
    (place / "mine" / "dynamics").mkdir(parents=True)
    for name, lines in (("quitting", "class: untidy_parts:Quitting\ncode: 3"), ("clean", "class: untidy_parts:Clean")):
        (place / "mine" / "dynamics" / f"{name}.yaml").write_text(f"name: {name}\n{lines}\n")
    words = "data=moons data.examples=64 model.stem=none trainer.epochs=1 log=quiet device=cpu --config-dir mine name=s"
    assert main(["sweep", *words.split(), "dynamics=quitting,clean"]) == 1
    folder = place / "outputs" / "sweep" / "s"
    with (folder / "results.csv").open(newline="") as file:
        rows = {row["dynamics"]: row for row in csv.DictReader(file)}
    assert rows["clean"]["status"] == "done" and rows["quitting"]["reason"] == "a part of the run called sys.exit(3)"
    assert json.loads((folder / rows["quitting"]["run"] / "status.json").read_text())["status"] == "failed"
