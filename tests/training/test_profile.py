"""trainer.profile: a table and a trace of some steps, and a training that is none the worse for it."""

import json

import pytest
import torch
from training_problem import make_settings, make_setup

from noderun.report.folders import read_csv
from noderun.training.isolation import isolated
from noderun.training.profile import WARM_UP
from noderun.training.run import Run


def trained(folder, epochs=3, **options):
    folder.mkdir()
    with isolated(torch.device("cpu"), 0):
        Run(make_setup(), make_settings(epochs=epochs, **options), folder).complete()
    return torch.load(folder / "checkpoint.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    weights = trained(folder)
    assert not (folder / "profile.csv").exists() and not (folder / "trace.json").exists()
    return weights


@pytest.mark.parametrize(("steps", "seen"), [(2, 2), (50, 6 - WARM_UP)])
def test_so_many_steps_are_watched_or_as_many_as_the_epoch_has(steps, seen, unwatched, tmp_path):
    weights = trained(tmp_path / "run", profile=steps)
    rows = {row["operation"]: row for row in read_csv(tmp_path / "run/profile.csv")}
    step = next(row for name, row in rows.items() if name.startswith("Optimizer.step"))
    assert step["calls"] == 1
    times = [row["self CPU (ms)"] for row in rows.values()]
    assert times == sorted(times, reverse=True) and rows["aten::addmm"]["CPU (ms)"] > 0
    events = json.loads((tmp_path / "run/trace.json").read_text())["traceEvents"]
    assert sum(str(event.get("name")).startswith("Optimizer.step") for event in events) == seen
    torch.testing.assert_close(weights, unwatched, rtol=0, atol=0)


def test_a_run_that_ends_while_it_is_watched_leaves_the_next_one_free(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Run, "on_log", lambda *_: 1 / 0)
        trained(tmp_path / "failed", profile=9)
    trained(tmp_path / "next", profile=1)
    assert (tmp_path / "next/trace.json").is_file() and not (tmp_path / "failed/trace.json").exists()


def test_a_run_that_is_too_short_says_so(tmp_path, caplog):
    trained(tmp_path / "short", epochs=1, max_steps=2, profile=1)
    assert "no profile: training ended within 3 steps" in caplog.text
