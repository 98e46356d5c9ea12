"""A run that ends by its seconds of training."""

import time

import pytest
import torch
from training_problem import make_settings, make_setup

from noderun.record.metrics import read_metrics
from noderun.training import progress as progress_module
from noderun.training.isolation import isolated
from noderun.training.progress import Budget, Progress
from noderun.training.run import Run


class Clock:
    """Each look at it costs a quarter of a second: a step looks once and an epoch begins with a look."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.25
        return self.now


@pytest.fixture
def train(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", Clock())

    def train(folder, **trainer):
        folder.mkdir(exist_ok=True)
        with isolated(torch.device("cpu"), 0):
            return Run(make_setup(solved=False), make_settings(log_every=1000, **trainer), folder).complete()

    return train


def test_it_ends_at_its_seconds_whatever_its_epochs_say(train, tmp_path):
    result = train(tmp_path, epochs=1, max_seconds=10.0)
    assert 10.0 <= result["training_seconds"] <= 10.25 + 0.25
    assert result["epochs"] > 1


def test_it_is_tested_so_many_times_and_at_its_end(train, tmp_path, monkeypatch):
    monkeypatch.setattr(progress_module, "TESTS", 4)
    result = train(tmp_path, max_seconds=20.0)
    tested = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if "loss/test" in row]
    assert len(tested) in (4, 5) and tested[-1] == result["steps"]
    assert result["epochs"] > 5, "there were epochs without a test"


def test_more_seconds_continue(train, tmp_path):
    first = train(tmp_path, max_seconds=5.0)
    second = train(tmp_path, max_seconds=10.0)
    assert second["steps"] > first["steps"] and second["training_seconds"] >= 10.0
    assert train(tmp_path, max_seconds=10.0)["steps"] == second["steps"]


def test_a_schedule_spans_the_seconds():
    progress, budget = Progress(step=7, training_seconds=3.0), Budget(seconds=12.0)
    assert budget.position(progress, horizon=1000) == 250
    assert budget.position(progress, horizon=None) == Budget(steps=100).position(progress, horizon=1000) == 7
