"""trainer.precision=bf16 from the command line to the result, by every gradient method that trains a net."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

import noderun
from noderun.cli.main import main

WORDS = "train data=digits data.limit=64 data.batch_size=32 model.width=16 trainer.max_steps=8 log=quiet".split()
TRAINING = [name for name in noderun.GRADIENTS if name != "forward"]  # which is for a few parameters


def run(capsys, *words):
    assert main([*WORDS, *words]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), [row["loss/train"] for row in rows if "loss/train" in row]


@pytest.mark.parametrize("gradient", TRAINING)
def test_a_run_in_bf16_learns_and_ends_with_its_diagnostics(gradient, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words, told = [f"gradient={gradient}"], nullcontext()
    if gradient == "reversible":  # steps back as far as bf16 lets it, and says how far that is
        words += ["solver=reversible_heun", "solver.dt=0.1"]
        told = pytest.warns(RuntimeWarning, match="the backward pass arrived")
    with told:
        half, losses = run(capsys, "trainer.precision=bf16", *words)
    assert half["status"] == "done" and 0 < half["numerical_error"] < 0.1
    assert losses[-1] < losses[0]
