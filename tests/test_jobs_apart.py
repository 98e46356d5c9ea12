"""Jobs of one sweep share a process: what one does to it, or how one ends, is nothing to the others."""

import csv
import json
import logging
import sys
from pathlib import Path

import pytest
import torch

from noderun import cli

MODULE = """
import os
import sys
import warnings

import numpy as np
import torch
from torch import nn


class Clean(nn.Module):
    def __init__(self, state_shape):
        super().__init__()
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
OPTIONS = {
    "clean": "class: untidy_parts:Clean",
    "calm": "class: untidy_parts:Clean",
    "untidy": "class: untidy_parts:Untidy",
    "quits_0": "class: untidy_parts:Quitting\ncode: 0",
    "quits_3": "class: untidy_parts:Quitting\ncode: 3",
    "quits_none": "class: untidy_parts:Quitting\ncode: null",
}
WORDS = """sweep data=moons data.examples=64 data.batch_size=32 model.stem=none gradient=backprop trainer.epochs=1
log=quiet device=cpu""".split()


@pytest.fixture(autouse=True)
def process():
    """What Hydra does to the process is undone."""
    root, path = logging.getLogger(), list(sys.path)
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    sys.path[:] = path


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "untidy_parts", raising=False)
    monkeypatch.setattr("noderun.report.summary.report_grid", lambda *arguments: None)  # seconds of figures
    return tmp_path


def sweep(place, *dynamics):
    """The exit status, and the row of results.csv and the folder of each job by its dynamics."""
    mine = place / "mine"
    (mine / "dynamics").mkdir(parents=True, exist_ok=True)
    (mine / "untidy_parts.py").write_text(MODULE)
    for name, lines in OPTIONS.items():
        (mine / "dynamics" / f"{name}.yaml").write_text(f"name: {name}\n{lines}\n")
    name = "-".join(dynamics)
    status = cli.main([*WORDS, f"dynamics={','.join(dynamics)}", f"name={name}", "--config-dir", str(mine)])
    folder = place / "outputs" / "sweep" / name
    with (folder / "results.csv").open(newline="") as file:
        return status, {row["dynamics"]: (row, folder / row["run"]) for row in csv.DictReader(file)}


def test_a_job_that_is_untidy_changes_no_other_in_either_order(place):
    weights = []
    for order in (("calm", "clean"), ("untidy", "clean"), ("clean", "untidy")):
        _, jobs = sweep(place, *order)
        row, folder = jobs["clean"]
        assert row["status"] == "done"
        weights.append(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=0)
    assert Path.cwd() == place and torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


def test_a_job_that_leaves_the_process_is_a_failed_job(place, capsys):
    status, jobs = sweep(place, "quits_0", "quits_3", "quits_none", "clean")
    assert status == 1 and jobs["clean"][0]["status"] == "done"
    for name, code in (("quits_0", "0"), ("quits_3", "3"), ("quits_none", "")):
        row, folder = jobs[name]
        assert (row["status"], row["reason"]) == ("failed", f"a part of the run called sys.exit({code})")
        assert json.loads((folder / "status.json").read_text())["status"] == "failed"
        assert "untidy_parts.py" in (folder / "run.log").read_text()
    assert "Traceback" not in capsys.readouterr().err
