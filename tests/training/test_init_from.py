"""init_from: training that starts from the weights of another run."""

from dataclasses import replace

import pytest
import torch
from training_problem import make_settings, make_setup

from noderun.cli.main import main
from noderun.cli.planning import make_job
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.validation import Incompatible
from noderun.training.checkpoint import load_checkpoint, save_checkpoint
from noderun.training.run import Run


@pytest.fixture
def source(tmp_path):
    """A run's folder with other weights than a new model draws."""
    torch.manual_seed(7)
    (tmp_path / "source").mkdir()
    save_checkpoint(tmp_path / "source", {"model": make_setup().model.state_dict(), "callbacks": {}})
    return tmp_path / "source"


def run_from(source, folder):
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    return Run(make_setup(), replace(make_settings(epochs=1), init_from=str(source)), folder)


def start_from(source, folder):
    """The weights with which a run begins or goes on."""
    run = run_from(source, folder)
    run.recorder.close()
    return run.setup.model.state_dict()


def weights(folder):
    return load_checkpoint(folder / "checkpoint.pt")["model"]


def test_training_starts_from_those_weights_once(source, tmp_path):
    torch.testing.assert_close(start_from(source, tmp_path / "run"), weights(source), rtol=0, atol=0)
    run_from(source, tmp_path / "run").complete()
    resumed = start_from(source, tmp_path / "run")
    torch.testing.assert_close(resumed, weights(tmp_path / "run"), rtol=0, atol=0)
    assert not torch.equal(resumed["0.weight"], weights(source)["0.weight"])


def test_of_a_run_with_a_validation_split_they_are_the_best(source, tmp_path):
    state = load_checkpoint(source / "checkpoint.pt")
    best = {name: tensor + 1 for name, tensor in state["model"].items()}
    save_checkpoint(source, state | {"callbacks": {"BestWeights": {"value": 0.0, "weights": best}}})
    torch.testing.assert_close(start_from(source, tmp_path / "run"), best, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"0.weight": torch.zeros(5, 3)}, r"the weight '0.weight' is \(5, 3\) there and \(4, 3\) in this model"),
        ({"9.weight": torch.zeros(1)}, "the weight '9.weight' is in that model alone"),
        ({"0.weight": None}, "the weight '0.weight' is in this model alone"),
    ],
)
def test_weights_of_another_model_are_refused_by_the_first_that_differs(change, sentence, source, tmp_path):
    changed = {name: tensor for name, tensor in (weights(source) | change).items() if tensor is not None}
    save_checkpoint(source, {"model": changed, "callbacks": {}})
    with pytest.raises(Incompatible, match=f"init_from={source}: {sentence}"):
        start_from(source, tmp_path / "run")


def test_the_run_is_known_by_what_the_checkpoint_holds(source, tmp_path):
    composer = Composer("train", [config_folder()])

    def made(folder):
        return make_job(composer, [f"init_from={folder}", "optimizer.lr=1e-4"])

    first = made(source)
    source.rename(tmp_path / "moved")
    assert made(tmp_path / "moved").run_id == first.run_id != make_job(composer, ["optimizer.lr=1e-4"]).run_id
    save_checkpoint(tmp_path / "moved", {"model": {}, "callbacks": {}})
    assert made(tmp_path / "moved").run_id != first.run_id


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 99])
def test_a_folder_without_a_checkpoint_is_refused_before_anything_starts(content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    before = list(tmp_path.iterdir())
    assert main(["train", f"init_from={tmp_path}"]) == 2
    assert f"init_from={tmp_path}: no run's checkpoint is at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == before
