"""A run of a partial differential equation: what it reports, its figures, and that it goes on to the same bits."""

import pytest
import torch

from noderun.cli.main import main
from noderun.cli.planning import make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.evaluation.rollout import spacetime_rows
from noderun.report.folders import runs_of
from noderun.report.rollout import draw_rollout, draw_spacetime, rollout_rows
from noderun.training.build import make_setup

WORDS = """data.points=48 data.viscosity=0.02 data.examples=3 data.steps=8 data.test_steps=12 data.unroll=2
data.batch_size=8 dynamics.hidden=4 scheduler=constant device=cpu log=quiet""".split()
MODELS = [["model=convnet_stepper"], ["model=neural_pde", "solver=rk4", "solver.dt=1"]]


def train(folder, words, epochs):
    assert main(["train", *WORDS, *words, f"trainer.epochs={epochs}", f"hydra.run.dir={folder}"]) == 0
    return runs_of(folder)[0].result


def test_a_run_reports_its_error_by_steps(tmp_path):
    result = train(tmp_path / "run", MODELS[0], 1)
    assert result["nfe_test"] == 12 and result["steps"] == 3 and result["solver"] is None
    assert result["nrmse"] > 0 and result["nrmse_persistence"] > 0
    rows = rollout_rows(runs_of(tmp_path))
    assert [(row["label"], row["steps"]) for row in rows] == [
        (label, k) for label in ("convnet_stepper", "persistence") for k in (1, 2, 5, 10)
    ]
    draw_rollout(rows, tmp_path / "rollout.png")
    setup = make_setup(
        make_job(Composer("train", [config_folder()]), [*WORDS, *MODELS[0]]).settings, torch.device("cpu")
    )
    pixels = spacetime_rows(setup)
    assert len(pixels) == 12 * 48 and pixels[0].keys() == {"step", "point", "truth", "model"}
    draw_spacetime(pixels, tmp_path / "spacetime.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 1_000 for name in ("rollout", "spacetime"))


@pytest.mark.long
@pytest.mark.parametrize("words", MODELS, ids=lambda words: words[0])
def test_a_resumed_run_ends_at_the_same_bits(words, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = train(whole, words, 2)
    train(parts, words, 1)
    assert train(parts, words, 2)["nrmse"] == result["nrmse"]
    stored = [torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (whole, parts)]
    assert all(torch.equal(a, b) for a, b in zip(*(weights.values() for weights in stored), strict=True))
