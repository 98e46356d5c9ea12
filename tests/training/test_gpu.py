"""Runs on a GPU: training, resuming, evaluating and sweeping, equal bits, precision and memory."""

import json
from pathlib import Path

import pytest
import torch

import noderun
from noderun.cli.main import main

pytestmark = pytest.mark.cuda
WORDS = "data=digits data.limit=64 data.batch_size=32 log=quiet device=cuda".split()


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, task, *words):
    assert main([task, *WORDS, *words] if task != "evaluate" else [task, *words]) == 0
    return Path(capsys.readouterr().out.splitlines()[-1])


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("gradient", ["adjoint", "backprop", "checkpointed", "interpolated", "symplectic"])
def test_a_run_learns_with_the_counts_of_a_cpu(gradient, capsys):
    words = [f"gradient={gradient}", "trainer.epochs=2"]
    there = result(run(capsys, "train", *words))
    here = result(run(capsys, "train", *words, "device=cpu", "name=here"))
    assert there["status"] == "done" and there["memory_peak_mib"] > 0
    assert there["nfe_forward"] == pytest.approx(here["nfe_forward"], rel=0.1)
    assert there["train_loss"] == pytest.approx(here["train_loss"], rel=0.05)


def test_a_larger_number_of_epochs_goes_on_and_a_finished_run_is_evaluated(capsys):
    folder = run(capsys, "train", "trainer.epochs=1")
    assert run(capsys, "train", "trainer.epochs=2") == folder and result(folder)["epochs"] == 2
    run(capsys, "evaluate", f"run={folder}", "tolerance=1e-1,1e-3", "device=cuda")


def test_a_sweep_has_a_row_per_job(capsys):
    folder = run(capsys, "sweep", "tolerance=1e-1,1e-3", "trainer.max_steps=4")
    assert len((folder / "results.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_every_precision_trains(precision, capsys):
    assert result(run(capsys, "train", f"trainer.precision={precision}", "trainer.max_steps=8"))["status"] == "done"


def test_equal_runs_have_equal_bits(capsys):
    words = ["deterministic=true", "gradient=checkpointed", "trainer.max_steps=8"]
    states = []
    for name in ("one", "two"):
        folder = run(capsys, "train", *words, f"hydra.run.dir={name}")
        states.append(torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")["model"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_checkpointed_pass_holds_less_than_backprop():
    f, held = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.Tanh(), torch.nn.Linear(1024, 256)).cuda(), {}

    def field(t, y):
        return f(y)

    for gradient in ("checkpointed", "backprop"):
        for _ in range(2):
            before = torch.cuda.memory_allocated()
            y0 = torch.ones(512, 256, device="cuda", requires_grad=True)
            ys = noderun.solve(field, y0, [0.0, 1.0], rtol=1e-3, gradient=gradient, params=f.parameters()).ys
            held[gradient] = torch.cuda.memory_allocated() - before
            ys.sum().backward()
    assert held["checkpointed"] < held["backprop"] / 2


def test_tolerances_on_the_host_are_moved_to_the_state():
    y0 = torch.ones(3, device="cuda", dtype=torch.float64)
    sol = noderun.solve(lambda t, y: -y, y0, [0.0, 1.0], rtol=torch.full((3,), 1e-6), atol=torch.full((3,), 1e-9))
    torch.testing.assert_close(sol.ys[-1].cpu(), torch.full((3,), 0.36787944, dtype=torch.float64), rtol=1e-5, atol=0)
