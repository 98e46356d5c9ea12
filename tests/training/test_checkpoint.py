import random

import numpy as np
import pytest
import torch
from training_problem import make_settings, make_setup

from noderun.training import checkpoint
from noderun.training.checkpoint import load_checkpoint, random_state, save_checkpoint, set_random_state
from noderun.training.run import Run


def test_a_save_that_dies_half_way_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"step": 1})

    def torn(state, file):
        file.write(b"half a checkp")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.torch, "save", torn)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}


@pytest.mark.parametrize("size", [0, 100, -50])
def test_damaged_checkpoint_is_said_in_one_sentence(size, tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"model": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="is damaged and cannot be resumed from; fresh=true starts over"):
        load_checkpoint(path)


def test_a_flipped_bit_is_said_or_changes_nothing(tmp_path):
    path = tmp_path / "checkpoint.pt"
    state = {"model": {"weight": torch.arange(50.0), "bias": torch.zeros(2)}, "progress": {"step": 3, "loss": 0.5}}
    save_checkpoint(path, state)
    content, said = path.read_bytes(), 0
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            loaded = load_checkpoint(path)
        except ValueError as error:
            assert str(error) == f"{path} is damaged and cannot be resumed from; fresh=true starts over"
            said += 1
        else:
            torch.testing.assert_close(loaded, state, rtol=0, atol=0)
    assert said > 100  # the others are padding


def test_every_generator_comes_back(tmp_path):
    device = torch.device("cpu")
    np.random.randn()  # leaves a cached normal number behind
    save_checkpoint(tmp_path / "c.pt", random_state(device))

    def drawn():
        return random.random(), np.random.randn(), np.random.rand(), torch.rand(3).tolist(), random.gauss(0, 1)

    first = drawn()
    assert drawn() != first
    set_random_state(load_checkpoint(tmp_path / "c.pt"), device)
    assert drawn() == first


@pytest.mark.parametrize("state", [{"model": {}}, {"model": {"w": 1}, "callbacks": {}}])
def test_a_checkpoint_of_another_version_is_said_in_one_sentence(state, tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    with pytest.raises(ValueError, match="checkpoint.pt is of another version .*; fresh=true starts over"):
        Run(make_setup(), make_settings(), tmp_path)
