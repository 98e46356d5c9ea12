"""What must not cost a training, and what has to end it at once."""

import json
import math
import os
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from training_problem import Field, make_settings, make_setup

from noderun.evaluation.measure import measured_solves
from noderun.ode.solvers import SolveError
from noderun.record.metrics import read_metrics
from noderun.training import diagnostics, loop
from noderun.training.diagnostics import GRADIENT_ERROR, MEASURES, Diagnostics
from noderun.training.isolation import isolated
from noderun.training.progress import Budget, Diverged, Progress
from noderun.training.run import Run
from noderun.training.setup import Setup

CPU = torch.device("cpu")


def train(folder, setup_options=None, lr=1e-2, scale=1.0, **options):
    """``scale`` multiplies the inputs."""
    folder.mkdir(exist_ok=True)
    with isolated(CPU, 0):
        setup = replace(make_setup(**(setup_options or {})), lr_schedule=lambda step: lr)
        setup.model.register_forward_pre_hook(lambda module, inputs: (scale * inputs[0],))
        return Run(setup, make_settings(**options), folder).complete()


def saved(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


class Frozen(Field):
    """Has nothing to train."""

    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Constant(Field):
    """Holds a float32 tensor that is no buffer, so that .double() passes over it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.eye(4)

    def forward(self, t, y):
        return super().forward(t, y) @ self.weight


class Storing(Field):
    """Keeps what it returned, which copy.deepcopy refuses."""

    def forward(self, t, y):
        self.last = super().forward(t, y)
        return self.last


class Locked(Field):
    """Holds what cannot be copied, a lock here, as it may be an open file."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, t, y):
        with self.lock:
            return super().forward(t, y)


class Single(Field):
    """Computes in float32, whatever it is given."""

    def forward(self, t, y):
        return super().forward(t, y.float())


class Counting(Field):
    """Refuses to be called once more than training needs it."""

    calls = 0

    def forward(self, t, y):
        if not self.training:
            self.calls += 1
        if self.calls > 100:
            raise KeyError("tired")
        return super().forward(t, y)


@pytest.mark.parametrize("field", [Frozen, Constant, Storing, Locked, Single, Counting])
def test_a_legal_field_that_cannot_be_measured_loses_no_training(field, tmp_path, caplog):
    options = {"field": field, "gradient": "backprop"}
    result = train(tmp_path, setup_options=options, epochs=1)
    assert result["steps"] == 6 and result["train_loss"] > 0 and result["status"] == "done"
    assert json.loads((tmp_path / "result.json").read_text()) == result
    *_, row = read_metrics(tmp_path / "metrics.jsonl")
    missing = {tag for tag in MEASURES if row[tag] is None}
    assert missing
    for tag in missing:
        assert f"{tag} was not measured: " in caplog.text
    weights = saved(tmp_path)["model"]
    assert train(tmp_path, setup_options=options, epochs=1)["steps"] == 6
    torch.testing.assert_close(saved(tmp_path)["model"], weights, rtol=0, atol=0)


def test_an_evaluation_goes_on_without_what_cannot_be_measured(caplog):
    found = measured_solves(make_setup(field=Locked))
    assert found["solve/numerical_error"] is None and found["solve/reconstruction_error"] > 0
    assert found["steps/accepted"] > 0
    assert "numerical_error was not measured: cannot pickle" in caplog.text


@pytest.mark.parametrize("death", [KeyboardInterrupt, SystemExit])
def test_a_run_that_dies_in_its_last_measurements_has_weights_and_result(death, tmp_path, monkeypatch):
    def deadly(*arguments):
        raise death

    with monkeypatch.context() as patch:
        patch.setattr(diagnostics, "diagnose", deadly)
        with pytest.raises(death):
            train(tmp_path, epochs=1)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 6 and result["test_error"] is not None and result["numerical_error"] is None
    monkeypatch.setattr(loop, "train_step", None)  # taken up, it has nothing to train
    again = train(tmp_path, epochs=1)
    assert again["numerical_error"] > 0 and again["test_error"] == result["test_error"]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [4, 6]


def test_a_signal_is_obeyed_in_the_middle_of_a_measurement(tmp_path, monkeypatch):
    def measure(seen):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(diagnostics, "MEASURES", dict.fromkeys(MEASURES, measure))
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, epochs=1)
    assert time.monotonic() - start < 30 and saved(tmp_path)["scheduler"]["step"] == 6


@pytest.mark.parametrize(("solved", "lr"), [(False, 1e20), (False, 1e10), (True, 1e30)])
def test_training_that_has_exploded_fails_at_its_step(solved, lr, tmp_path):
    """A loss that is no number, one that is far too large, a field that cannot be solved: never a result."""
    with pytest.raises((Diverged, SolveError), match=r" in epoch 1, step 2: try a smaller optimizer.lr$"):
        train(tmp_path, {"solved": solved}, lr=lr, epochs=1)
    assert not (tmp_path / "result.json").exists() and not (tmp_path / "checkpoint.pt").exists()


def test_a_loss_that_is_no_number_at_once_is_not_blamed_on_the_learning_rate(tmp_path):
    with pytest.raises(Diverged, match="in epoch 1, step 1: look at the scale of the data and of the first weights"):
        train(tmp_path, {"solved": False, "objective": "regress"}, scale=math.nan, epochs=1)


def test_only_the_test_shows_that_the_last_update_was_too_large(tmp_path):
    with pytest.raises(Diverged, match="in the test after epoch 1, step 1: try a smaller optimizer.lr"):
        train(tmp_path, {"solved": False}, lr=1e20, max_steps=1)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 3e6])
@pytest.mark.parametrize("at", [1, 2, 4])
def test_losses_that_wait_on_a_device_are_found_at_their_step(bad, at):
    """As on a GPU, where they are looked at when a row or a checkpoint is due."""
    progress = Progress()
    for step in range(1, 5):
        progress.advance({"loss/train": torch.tensor(bad if step == at else 2.0)}, examples=8, seconds=0.1)
    if at == 1 and math.isfinite(bad):
        progress.check_losses()
    else:
        with pytest.raises(Diverged, match=f"step {at}: "):
            progress.check_losses()


def test_a_run_that_has_diverged_is_never_saved(tmp_path):
    """Its loss may still wait on the device when a checkpoint is due: resumed, it would begin from broken weights."""
    with isolated(CPU, 0):
        run = Run(make_setup(solved=False), make_settings(), tmp_path)
    run.progress.advance({"loss/train": torch.tensor(math.nan)}, examples=8, seconds=0.1)
    with pytest.raises(Diverged, match="the loss is nan in epoch 1, step 1"):
        run.save()
    run.recorder.close()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_device_is_asked_for_losses_only_when_a_row_is_due(monkeypatch):
    """Each look at a loss makes the host wait for the device: on a GPU that would cost every step."""
    asked, check = [], Progress.check_losses
    monkeypatch.setattr(Progress, "check_losses", lambda self: asked.append(self.step) or check(self))
    monkeypatch.setattr(Setup, "values", lambda self, batch: self.objective(self.model, batch))
    progress = Progress()
    callbacks = SimpleNamespace(
        on_epoch_start=lambda: None, on_log=lambda row: None, on_step_end=lambda: None, leavable=nullcontext
    )
    callbacks.on_epoch_end = lambda: setattr(progress, "tested", progress.step)
    for device, steps in (("cpu", [1, 2, 3, 4, 5, 6]), ("meta", [3, 6])):
        progress.__init__()
        asked.clear()
        setup = replace(make_setup(), device=torch.device(device))
        loop.fit(setup, progress, Budget(steps=6), log_every=3, run=callbacks)
        assert asked == steps


def test_a_clock_that_stands_still_leaves_speeds_out(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: 7.0)
    result = train(tmp_path, epochs=1)
    assert result["examples_per_second"] is None and result["seconds"] == 0.0
    first, *_ = read_metrics(tmp_path / "metrics.jsonl")
    assert first["time/examples_per_s"] is None and first["time/step_ms"] == 0.0


def test_the_gradients_error_is_measured_between_epochs_while_it_costs_little(tmp_path, monkeypatch):
    """The price is known after the first time; all of them together stay within the share of the training's time."""
    monkeypatch.setattr(diagnostics, "FIRST_PRICE", 0.0)
    monkeypatch.setattr(diagnostics, "SHARE", 1e9)
    result = train(tmp_path / "often", epochs=3)
    rows = [row for row in read_metrics(tmp_path / "often" / "metrics.jsonl") if "loss/test" in row]
    assert [GRADIENT_ERROR in row for row in rows] == [True] * 3
    assert [set(MEASURES) <= set(row) for row in rows] == [False, False, True]
    assert 0 < result["gradient_error"] < 0.1
    state = saved(tmp_path / "often")["callbacks"]["Diagnostics"]
    assert state["count"] == 2 and state["seconds"] > 0
    monkeypatch.setattr(diagnostics, "FIRST_PRICE", 5)
    monkeypatch.setattr(diagnostics, "SHARE", 0.0)
    train(tmp_path / "never", epochs=3)
    torch.testing.assert_close(saved(tmp_path / "often")["model"], saved(tmp_path / "never")["model"], rtol=0, atol=0)
    assert saved(tmp_path / "never")["callbacks"]["Diagnostics"]["count"] == 0


@pytest.mark.parametrize(
    ("step", "count", "spent", "known", "able"),
    [
        (249, 0, 0.0, {}, False),  # the first one is taken for five steps: two per cent of 250
        (250, 0, 0.0, {}, True),
        (250, 1, 2.4, {}, True),
        (250, 1, 2.6, {}, False),
        (250, 4, 4.0, {}, True),
        (250, 4, 4.1, {}, False),
        (10_000, 1, 1.0, {GRADIENT_ERROR: None}, False),  # it cannot be measured
    ],
)
def test_what_a_measurement_may_cost(step, count, spent, known, able):
    measuring = Diagnostics(make_setup(), make_settings())
    measuring.load_state_dict({"count": count, "seconds": spent})
    assert measuring.affordable(Progress(step=step, training_seconds=1.0 * step, measured=known)) == able


def test_a_gradient_that_is_far_from_the_flows_is_told_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(diagnostics.MEASURES, GRADIENT_ERROR, lambda seen: 0.234)
    train(tmp_path, epochs=3, diagnostics_every=1)
    (warning,) = [record.getMessage() for record in caplog.records if "gradient is" in record.getMessage()]
    remedy = "a gradient.rtol below 0.001, or gradient=checkpointed"
    assert warning == f"after epoch 1 the gradient is 23 % from that of the flow: try {remedy}"
