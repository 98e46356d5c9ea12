"""A run whose data have a validation split ends with the weights that were best on it, also if it was interrupted."""

from dataclasses import replace

import pytest
import torch
from training_problem import SIZE, blobs, make_settings, make_setup

from noderun.data import Batch, batches
from noderun.evaluation.trained import load_setup
from noderun.record import run_folder
from noderun.record.metrics import read_metrics
from noderun.training import build
from noderun.training.isolation import isolated
from noderun.training.loop import evaluate
from noderun.training.run import Run

CPU = torch.device("cpu")


class Killed(BaseException):
    """Stands for kill -9."""


def setup_of(sign):
    """Validation on the training rows, or on such rows with the opposite targets: then less and less is learned."""
    data = blobs("regress")
    data = replace(data, validation=Batch(data.train.inputs, sign * data.train.targets))
    return replace(
        make_setup(objective="regress", dropout=0.0),
        validated=True,
        batches=lambda split, epoch, start: batches(data, split, SIZE, 0, epoch, start),
    )


def train(folder, sign, epochs=4, patience=None):
    folder.mkdir(exist_ok=True)
    with isolated(CPU, 0):
        run = Run(setup_of(sign), make_settings(epochs=epochs, patience=patience), folder)
        return run, run.complete()


def rows(folder):
    return [row for row in read_metrics(folder / "metrics.jsonl") if "mse/test" in row]


@pytest.mark.parametrize(("sign", "best"), [(1, -1), (-1, 0)])
def test_the_result_is_that_of_the_weights_that_were_best_in_validation(tmp_path, sign, best):
    run, result = train(tmp_path / "run", sign)
    each = rows(tmp_path / "run")
    assert each[best]["mse/validation"] == min(row["mse/validation"] for row in each) and len(each) == 4
    assert result["test_loss"] == each[best]["loss/test"] and result["rmse"] == each[best]["mse/test"] ** 0.5
    found = evaluate(run.setup, "validation")
    assert found["mse/validation"] == pytest.approx(each[best]["mse/validation"], rel=1e-6)


def test_training_goes_on_from_the_last_weights(tmp_path):
    train(tmp_path / "once", -1, epochs=4)
    train(tmp_path / "twice", -1, epochs=2)
    train(tmp_path / "twice", -1, epochs=4)
    once, twice = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("once", "twice"))
    torch.testing.assert_close(once["model"], twice["model"], rtol=0, atol=0)
    kept = [state["callbacks"]["BestWeights"] for state in (once, twice)]
    torch.testing.assert_close(*kept, rtol=0, atol=0)
    assert any(not torch.equal(kept[0]["weights"][name], tensor) for name, tensor in once["model"].items())


def test_a_finished_run_is_loaded_with_the_best_weights(tmp_path, monkeypatch):
    train(tmp_path, -1)
    monkeypatch.setattr(build, "make_setup", lambda settings, device: setup_of(-1))
    loaded = load_setup(tmp_path, make_settings()).model.state_dict()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.testing.assert_close(loaded, type(loaded)(state["callbacks"]["BestWeights"]["weights"]), rtol=0, atol=0)


@pytest.mark.parametrize("saves", [1, 3])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, monkeypatch, saves):
    whole, result = train(tmp_path / "whole", -1)
    save, calls = Run.save, iter(range(saves))

    def deadly(self):
        save(self)
        if next(calls, None) is None:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Run, "save", deadly)
        train(tmp_path / "killed", -1)
    resumed, again = train(tmp_path / "killed", -1)
    torch.testing.assert_close(whole.setup.model.state_dict(), resumed.setup.model.state_dict(), rtol=0, atol=0)
    assert {key: again[key] for key in ("test_loss", "rmse", "steps")} == {
        key: result[key] for key in ("test_loss", "rmse", "steps")
    }
    assert rows(tmp_path / "killed")[0]["mse/validation"] == rows(tmp_path / "whole")[0]["mse/validation"]


def test_without_a_split_for_validation_the_last_weights_count(tmp_path):
    with isolated(CPU, 0):
        result = Run(make_setup(), make_settings(epochs=2), tmp_path).complete()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (
        state["callbacks"]["BestWeights"] == {}
        and "loss/validation" not in list(read_metrics(tmp_path / "metrics.jsonl"))[-1]
    )
    assert result["test_loss"] is not None


def test_patience_ends_a_run_whose_validation_gets_no_better(tmp_path):
    settings = make_settings(epochs=9, patience=2)
    _, result = train(tmp_path / "worse", -1, epochs=9, patience=2)
    assert result["epochs"] == 3 and result["stopped_early"]  # the first was the best
    assert result["test_loss"] == rows(tmp_path / "worse")[0]["loss/test"]
    run_folder.write_status(tmp_path / "worse", "done", {})
    assert run_folder.is_done(tmp_path / "worse", settings)
    _, result = train(tmp_path / "better", 1, epochs=9, patience=2)
    assert result["epochs"] == 9 and "stopped_early" not in result
    train(tmp_path / "twice", -1, epochs=2, patience=2)
    _, result = train(tmp_path / "twice", -1, epochs=9, patience=2)  # the count goes on
    assert result["epochs"] == 3
