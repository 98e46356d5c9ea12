"""`noderun sample` on a flow whose density is known, and what is wrong with its words in one sentence."""

import json

import numpy as np
import pytest
import torch

from noderun.cli.main import main
from noderun.evaluation.load import load_run

PARTS = """
import torch
from torch import nn
from noderun.data import Batch, Dataset, Density
from noderun.models import Flow

def few():
    points = 5 + 2 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    return Dataset("few", (2,), Density(2), Batch(points), Batch(points))

class Affine(Flow):
    def __init__(self, shape, outputs):
        super().__init__(shape)
        self.shift, self.scale = nn.Parameter(torch.full(shape, 5.0)), nn.Parameter(torch.full(shape, 2.0))

    def encode(self, y, index=None):
        return (y - self.shift) / self.scale, -self.scale.log().sum().expand(len(y))

    def decode(self, z):
        return self.shift + self.scale * z
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, restored_process):
    """A finished run of a normal, and the config folder that names it."""
    place = tmp_path_factory.mktemp("sample")
    (place / "parts_of_sample.py").write_text(PARTS)
    for group, name, more in (("model", "affine", "takes: [vector]\nobjective: density\n"), ("data", "few", "")):
        (place / group).mkdir()
        of = {"affine": "Affine"}.get(name, name)
        (place / group / f"{name}.yaml").write_text(f"name: {name}\nclass: parts_of_sample:{of}\n{more}")
    words = "model=affine data=few trainer.max_steps=1 optimizer.lr=1e-6 device=cpu log=quiet".split()
    assert main(["train", "--config-dir", str(place), *words, f"hydra.run.dir={place}/run"]) == 0
    return place / "run", place


def sample(run, *words):
    return main(["sample", str(run[0]), "device=cpu", *words, "--config-dir", str(run[1])])


def drawn(run, name="samples"):
    found = np.load(run[0] / f"{name}.npz")
    return found["samples"], json.loads(str(found["settings"]))


def test_a_draw_is_a_function_of_the_seed_and_has_the_model_s_distribution(run, capsys):
    assert sample(run, "n=2500", "seed=3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{run[0]}/samples.npz", f"{run[0]}/figures/samples.png", str(run[0])]
    first, settings = drawn(run)
    assert first.shape == (2500, 2) and settings["seed"] == 3 and settings["temperature"] == 1.0
    np.testing.assert_allclose(first.mean(0), 5, atol=4 * 2 / 50)
    np.testing.assert_allclose(first.std(0), 2, rtol=0.06)
    assert sample(run, "n=2500", "seed=3") == 0 and np.array_equal(drawn(run)[0], first)
    assert sample(run, "n=2500", "seed=4") == 0 and not np.array_equal(drawn(run)[0], first)
    assert sample(run, "n=2500", "seed=3", "temperature=0.5") == 0
    np.testing.assert_allclose(drawn(run)[0] - 5, 0.5 * (first - 5), atol=1e-4)


def test_the_way_between_two_examples_begins_and_ends_with_them(run):
    assert sample(run, "between=7,2", "n=11") == 0
    way, settings = drawn(run, "interpolation")
    points = 5 + 2 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(way[[0, -1]], points[[7, 2]], atol=1e-4)
    norms = np.linalg.norm((way - 5) / 2, axis=1)  # of the codes: from one end's to the other's, evenly
    np.testing.assert_allclose(norms, np.linspace(norms[0], norms[-1], 11), atol=1e-4)
    assert settings["between"] == [7, 2]


def test_a_loaded_flow_is_an_ordinary_module(run):
    model = load_run(run[0], config_dir=run[1]).model
    x = model.sample(5, generator=torch.Generator().manual_seed(0))
    exact = torch.distributions.Normal(5.0, 2.0).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_prob(x), exact, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["n=0"], "n must be a whole number from 1"),
        (["temprature=2"], "did you mean 'temperature'?"),
        (["temperature=0"], "temperature must be a number above 0"),
        (["between=3"], "two numbers of test examples"),
        (["between=0,-1"], "between must be a whole number from 0"),
        (["1000"], "cannot read '1000'; expected key=value"),
        (["device=gpu"], "device must be auto, cpu"),
    ],
)
def test_wrong_words_are_one_sentence(run, words, sentence, capsys):
    assert sample(run, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and err.count("\n") == 1


def test_an_example_that_is_not_there_is_named_and_the_folder_is_the_last_line(run, capsys):
    assert sample(run, "between=0,200") == 1
    out, err = capsys.readouterr()
    assert "has 200 examples" in err and out.splitlines() == [str(run[0])]


def test_a_run_that_generates_nothing_or_is_not_there_is_refused(run, tmp_path, capsys):
    words = "train model=mlp data=digits data.limit=20 trainer.max_steps=1 device=cpu log=quiet".split()
    assert main([*words, f"hydra.run.dir={tmp_path}/run"]) == 0
    capsys.readouterr()
    for folder, sentence in ((tmp_path / "run", "model=mlp, which generates nothing"), (tmp_path, "holds no run")):
        assert main(["sample", str(folder)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and sentence in err and err.count("\n") == 1
