"""Runs of latent SDEs: what cannot be is said before anything starts; a run that goes on ends in the same bits."""

import json

import pytest
import torch

from noderun.cli.main import main
from noderun.training.diagnostics import Diagnostics

TRAIN = (
    "train model=latent_sde data.examples=24 data.points=9 data.batch_size=8 model.hidden=4 model.width=4 "
    "model.layers=2 scheduler=constant log=quiet device=cpu"
).split()
REFUSED = {
    "solver=heun": "solver=heun solves Stratonovich equations, and model.interpretation=ito: use solver=euler or milst",
    "model.interpretation=stratonovich": "solver=euler solves Ito equations",
    "solver=dopri5": "solver=dopri5 is for ordinary ones: use solver=euler or milstein or heun",
    "gradient=interpolated": "gradient=interpolated is for ordinary equations",
    "gradient=reversible": "solver=euler cannot: use solver=reversible_heun",
    "solver=reversible_heun model.interpretation=stratonovich solver.dt=null": "takes fixed steps only",
    "solver.per_sample=true": "solver.per_sample=true is for ordinary equations",
    "solver.compile=true": "solver.compile=true is for ordinary equations",
    "solver.max_step=0.1": "solver.max_step is for adaptive steps",
    "gradient=adjoint gradient.rtol=1e-3": "gradient.rtol was given",
    "model.objective=sde_matching": "use model.posterior=marginals",
    "model.form=gsde model.posterior=marginals": "has no diffusion at z = 0",
    "model=latent_ode solver=milstein": "solver=milstein is for stochastic equations",
    "model=latent_ode solver=heun": "use solver=heun2",
    "model=latent_ode model.objective=sde_matching": "trains model=latent_sde, not latent_ode",
    "data=ou data.theta=0": "data.theta must be a number above 0",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_is_one_sentence_before_anything_starts(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = [] if "model=" in line else ["model=latent_sde"]
    assert main(["train", "log=quiet", *model, *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and REFUSED[line] in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["", "model.posterior=marginals model.objective=sde_matching"])
def test_a_run_that_goes_on_ends_in_the_same_bits(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Diagnostics, "on_test_end", lambda callback, run: None)  # which takes longer than these runs

    def weights(name, *more):
        assert main([*TRAIN, *words.split(), f"hydra.run.dir={tmp_path / name}", *more]) == 0
        return torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"]

    whole = weights("whole", "trainer.epochs=2")
    weights("parts", "trainer.epochs=1")
    parts = weights("parts", "trainer.epochs=2")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts")]
    for key in ("elbo", "iw_nll", "nll", "rmse", "diffusion_ratio"):
        assert results[0][key] == results[1][key] is not None


@pytest.mark.parametrize(
    "words",
    [
        "data=gbm model.form=gsde",
        "task=forecast data.observed=0.5 solver=milstein",
        "data=oscillators solver.dt=null tolerance=0.3",
    ],
)
def test_other_questions_data_and_steps_are_trained_and_tested(words, tmp_path):
    assert main([*TRAIN, *words.split(), "trainer.epochs=1", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["status"] == "done" and result["nfe_forward"] >= 8 and result["elbo"] is not None
