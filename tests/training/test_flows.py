"""Flows from the command line: what is refused before a run, and what a short run leaves behind."""

import json

import pytest
import torch

from noderun.cli.planning import check_training, make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.validation import Incompatible
from noderun.training import compatibility
from noderun.training.build import make_setup, train_run


def job(*words):
    return make_job(Composer("train", [config_folder()]), list(words))


TO_MOONS = ["model=flow_matching", "data=moons", "data.source=8gaussians"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([*TO_MOONS, "model.path=vp"], "model.path=vp begins at a standard normal, and data.source=8gaussians is an"),
        (["model=flow_matching", "model.path=vp", "model.sigma=0.1"], "model.sigma is of model.path=linear"),
        ([*TO_MOONS, "data.classes=true", "model.coupling=ot"], "model.coupling=ot pairs points across classes"),
        ([*TO_MOONS, "model.coupling=conditional_ot"], "pairs points within each class, and the data have no classes"),
        (
            ["model=ffjord", "data=rings", "data.classes=true"],
            "only model=flow_matching is conditioned on one; model=ffjord",
        ),
        (["model=odenet", "data=moons", "data.classes=true"], "classify asks data=moons for Classes"),
        (["model=vae", "model.rank=2"], "model.rank is of model.posterior=ffjord, and model.posterior=none was chosen"),
        (["model=nsf", "data=moons", "data.source=8gaussians"], "data.source=8gaussians is where model=flow_matching"),
        (["model=nsf", "model.objective=flow_matching"], "objective=flow_matching trains model=flow_matching, not nsf"),
        (
            ["model=odenet", "model.objective=elbo", "data=digits"],
            "objective=elbo trains model=vae or latent_ode or latent_sde or neural_flow, not odenet",
        ),
        (["model=planar_nf", "data=u1"], "model.objective=density needs Density as the target; data=u1"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(words, sentence):
    with pytest.raises(Incompatible, match=sentence):
        check_training(job(*words))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=nsf"], "model=nsf needs zuko, which is not here: pip install 'noderun\\[flows\\]'"),
        (["model=flow_matching", "model.coupling=ot"], "optimal transport needs POT, which is not here: pip install"),
        (TO_MOONS, "optimal transport needs POT"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(words, sentence, monkeypatch):
    monkeypatch.setattr(compatibility, "find_spec", lambda name: None)
    with pytest.raises(Incompatible, match=sentence):
        check_training(job(*words))


def run(folder, *words):
    settings = job(*words, "log=quiet", "device=cpu", "trainer.max_steps=3", "data.examples=64", "data.batch_size=32")
    train_run(settings.settings, folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return json.loads((folder / "result.json").read_text()), rows


@pytest.fixture
def few_test_points(monkeypatch):
    monkeypatch.setattr("noderun.data.densities.TEST", 100)


def test_flow_matching_solves_in_the_test_alone(tmp_path, few_test_points):
    result, rows = run(tmp_path, "model=flow_matching")
    assert result["nll"] == result["test_loss"] and result["nll_se"] > 0
    assert result["nfe_test"] > 0 and result["nfe_forward"] is result["nfe_backward"] is None
    assert result["gradient_error"] is None and result["numerical_error"] < 0.1
    assert not any("nfe/forward" in row for row in rows)


def test_data_to_data_reports_distances_and_the_time_of_pairing(tmp_path, few_test_points):
    result, _ = run(tmp_path, *TO_MOONS, "model.coupling=ot")
    for name in ("w2_squared", "w2_squared_euler", "path_energy", "straightness", "coupling_ms"):
        assert result[name] > 0, name
    assert result["nll"] is None


def test_data_to_data_given_the_class_reports_the_distance_within_classes_too(tmp_path, few_test_points):
    """It is at least that of all points as one cloud, which may be paired across classes."""
    result, _ = run(tmp_path, *TO_MOONS, "data.classes=true", "model.coupling=conditional_ot")
    assert result["w2_squared_classes"] >= result["w2_squared"] > 0 and result["coupling_ms"] > 0


def test_the_likelihood_is_that_given_the_class(few_test_points):
    words = ["model=flow_matching", "data=rings", "data.classes=true", "model.test_tolerance=1e-4"]
    setup = make_setup(job(*words).settings, torch.device("cpu"))
    flow, batch = setup.model.eval(), next(setup.batches("test", 0, 0))
    with torch.no_grad():
        each = torch.stack([flow.log_prob(batch.inputs, labels=torch.full((100,), c)) for c in range(4)], 1)
        values = setup.objective(flow, batch)
    nll = -each.gather(1, batch.targets[:, None])[:, 0]
    torch.testing.assert_close(values["nll"], nll, rtol=0, atol=1e-3)
    assert each.std(1).mean() > 0.05 and values["inverse_error"] < 1e-2
