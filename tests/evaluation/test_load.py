"""noderun.load_run, as a notebook uses it."""

import pytest
import torch

import noderun
from noderun.cli.main import main
from noderun.config.validation import ConfigError

WORDS = "train data=digits data.limit=64 data.batch_size=32 trainer.max_steps=4 trainer.log_every=1 log=quiet".split()


def test_a_finished_run_is_loaded_with_its_weights_and_curves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "hydra.run.dir=run"]) == 0
    run = noderun.load_run("run")
    weights = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in run.model.state_dict().items())
    assert not run.model.training and run.settings.data.limit == 64 and run.result["status"] == "done"
    steps, losses = run.curve("loss/train")
    assert steps == [1, 2, 3, 4] and all(loss > 0 for loss in losses)
    with pytest.raises(KeyError, match="no metric 'loss/tset'.*loss/test"):
        run.curve("loss/tset")
    with pytest.raises(ConfigError, match="holds no run"):
        noderun.load_run(tmp_path)
