"""Runs in a folder: what they leave, and that a killed one goes on as if nothing had happened."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from training_problem import make_settings, make_setup

from noderun.record.metrics import read_metrics
from noderun.training import loop
from noderun.training.isolation import isolated
from noderun.training.loop import train_step
from noderun.training.run import Run

CPU = torch.device("cpu")
KEYS = """task model dynamics data solver gradient rtol atol seed parameters epochs steps train_loss test_loss
test_error nll bits_per_dim rmse nfe_forward nfe_backward nfe_test nfe_sampling inverse_error
steps_accepted steps_rejected numerical_error gradient_error reconstruction_error memory_saved_mib
memory_peak_mib seconds training_seconds examples_per_second device status""".split()
TAGS = """loss/train loss/test error/train error/test nfe/forward nfe/backward nfe/test steps/accepted steps/rejected
memory/saved_mib memory/peak_mib solve/numerical_error solve/reconstruction_error solve/gradient_error time/step_ms
time/forward_ms time/examples_per_s optim/lr optim/grad_norm""".split()


class Killed(BaseException):
    """Stands for kill -9: nothing of ours runs after it."""


def train(folder, seed=0, setup_options=None, **options):
    folder.mkdir(exist_ok=True)
    with isolated(CPU, seed):
        setup = make_setup(**(setup_options or {}))
        return Run(setup, make_settings(**options), folder).complete()


def kill_at(monkeypatch, method, call):
    """Makes the ``call``-th call of Run.``method`` the process's last."""
    original, calls = getattr(Run, method), iter(range(call - 1))

    def deadly(self, *args):
        if next(calls, None) is None:
            raise Killed
        return original(self, *args)

    monkeypatch.setattr(Run, method, deadly)


def state(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def rows(folder):
    """metrics.jsonl without what a clock or another process's memory decides."""
    timed = ("time/step_ms", "time/forward_ms", "time/examples_per_s", "memory/peak_mib")
    return [{k: v for k, v in row.items() if k not in timed} for row in read_metrics(folder / "metrics.jsonl")]


def assert_same(a, b):
    torch.testing.assert_close(a["model"], b["model"], rtol=0, atol=0)
    torch.testing.assert_close(a["optimizer"], b["optimizer"], rtol=0, atol=0)
    assert a["scheduler"] == b["scheduler"] and a["data"] == b["data"]
    assert torch.equal(a["random"]["torch"], b["random"]["torch"])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


MOMENTS = {
    "before the first checkpoint": ("on_step_end", 2, 60.0),
    "in the middle of an epoch": ("on_step_end", 9, 60.0),
    "a step after a checkpoint": ("on_step_end", 9, 0.0),
    "before the last measurements": ("save", 3, 60.0),
    "in the last measurements": ("aside", 1, 60.0),
    "between a row and its checkpoint": ("save", 4, 60.0),
    "between a row in mid-epoch and its checkpoint": ("save", 9, 0.0),
    "while testing": ("test", 2, 60.0),
    "after the last step": ("test", 3, 60.0),
    "after the last checkpoint": ("write_result", 2, 60.0),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_resumes_to_the_same_bits(moment, uninterrupted, tmp_path, monkeypatch):
    method, call, seconds = MOMENTS[moment]
    with monkeypatch.context() as patch:
        kill_at(patch, method, call)
        with pytest.raises(Killed):
            train(tmp_path, checkpoint_seconds=seconds)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999, "epoch": 9}\n{"step": 1000, "epo')  # rows nobody vouches for, the last one torn
    result = train(tmp_path, checkpoint_seconds=seconds)
    folder, whole = uninterrupted
    assert_same(state(tmp_path), state(folder))
    assert rows(tmp_path) == rows(folder)
    clock = ("seconds", "training_seconds", "examples_per_second", "memory_peak_mib")
    assert {k: v for k, v in result.items() if k not in clock} == {k: v for k, v in whole.items() if k not in clock}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_first(number, uninterrupted, tmp_path, monkeypatch):
    original = Run.on_step_end

    def signalled(self):
        if self.progress.step == 8:
            os.kill(os.getpid(), number)
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "on_step_end", signalled)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    assert state(tmp_path)["scheduler"]["step"] == 8
    train(tmp_path)
    assert_same(state(tmp_path), state(uninterrupted[0]))


def test_more_epochs_continue(uninterrupted, tmp_path):
    first = train(tmp_path, epochs=1)
    assert first["epochs"] == 1
    result = train(tmp_path, epochs=3)
    assert_same(state(tmp_path), state(uninterrupted[0]))
    assert result["seconds"] > first["seconds"]


def test_max_steps_ends_early_with_a_result_and_can_be_lifted(uninterrupted, tmp_path):
    result = train(tmp_path, max_steps=8)
    assert (result["steps"], result["epochs"], result["status"]) == (8, 1, "done")
    assert result["test_error"] is not None and (tmp_path / "result.json").exists()
    train(tmp_path)
    assert_same(state(tmp_path), state(uninterrupted[0]))


def test_result_and_tags_are_complete(uninterrupted):
    folder, result = uninterrupted
    assert json.loads((folder / "result.json").read_text()) == result
    assert list(result) == KEYS
    nulls = {key for key, value in result.items() if value is None}
    assert nulls == {"nll", "bits_per_dim", "rmse", "nfe_sampling", "inverse_error"}
    assert set(TAGS) | {"step", "epoch"} == set().union(*read_metrics(folder / "metrics.jsonl"))


def test_model_that_solves_nothing_has_nulls_for_the_solve(tmp_path):
    result = train(tmp_path, setup_options={"solved": False}, epochs=1)
    for key in KEYS:
        assert (result[key] is None) == (
            key in {"nll", "bits_per_dim", "rmse", "nfe_sampling", "inverse_error"} or _of_the_solve(key)
        ), key


def _of_the_solve(key):
    return key.startswith(("nfe", "steps_", "numerical", "gradient_error", "reconstruction", "memory_saved"))


def test_regression_needs_no_classes(tmp_path):
    result = train(tmp_path, setup_options={"objective": "regress"}, epochs=1)
    assert result["test_error"] is None
    assert result["rmse"] == pytest.approx(result["test_loss"] ** 0.5)


def test_memory_of_backprop_is_more_than_of_the_adjoint(tmp_path):
    saved = [
        train(tmp_path / name, setup_options={"gradient": name}, epochs=1)["memory_saved_mib"]
        for name in ("adjoint", "backprop")
    ]
    assert saved[0] < 1e-4 < saved[1]


def test_bf16_keeps_the_state_in_float32(tmp_path):
    with isolated(CPU, 0):
        setup = make_setup(bf16=True, dropout=0.0)
    seen = []
    block = setup.blocks[0]
    block.register_forward_hook(lambda m, i, out: seen.append(("state", out.dtype)))
    block.dynamics.net.register_forward_hook(lambda m, i, out: seen.append(("field", out.dtype)))
    setup.values(next(setup.batches("train", 0, 0)))["loss"].backward()
    assert {pair for pair in seen} == {("state", torch.float32), ("field", torch.bfloat16)}
    assert all(p.grad.dtype == torch.float32 for p in setup.model.parameters())


def test_a_run_leaves_the_generators_and_flags_alone(tmp_path):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)["state"]["pos"]
    train(tmp_path, epochs=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state(legacy=False)["state"]["pos"])


def test_same_seed_same_weights_whatever_ran_before(uninterrupted, tmp_path):
    train(tmp_path / "other", seed=7, epochs=1)
    train(tmp_path / "again")
    assert_same(state(tmp_path / "again"), state(uninterrupted[0]))


def test_what_surrounds_a_step_costs_little(tmp_path, monkeypatch):
    """Batches, meters, rows and the live line: under 2 % of an ODE-Net's step of 100 ms and more."""
    with isolated(CPU, 0):
        setup = make_setup(solved=False)
    inside = []

    def timed(*args, **keywords):
        start = time.perf_counter()
        out = train_step(*args, **keywords)
        inside.append(time.perf_counter() - start)
        return out

    monkeypatch.setattr(loop, "train_step", timed)
    run = Run(setup, make_settings(epochs=20, log_every=10), tmp_path)
    run.complete()
    assert (run.progress.training_seconds - sum(inside)) / len(inside) < 2e-3
