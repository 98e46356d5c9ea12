import errno
import io
import os
import random

import numpy as np
import pytest
import torch
from training_problem import make_settings, make_setup

from noderun.training import checkpoint
from noderun.training.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from noderun.training.run import Run


def test_a_save_that_dies_half_way_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    assert newest_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, {"step": 1})

    def torn(state, file):
        file.write(b"half a checkp")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.torch, "save", torn)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, {"step": 2})
    assert newest_checkpoint(tmp_path) == {"step": 1}
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_full_disk_is_the_error_of_the_file(tmp_path):
    """torch.save says of it that it got to an unexpected position."""

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device"):
        checkpoint.write_archive({"weight": torch.ones(9)}, Full())


def test_of_two_checkpoints_the_newest_that_is_whole_is_used(tmp_path, caplog):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, {"step": step})
    assert newest_checkpoint(tmp_path) == {"step": 3} and not caplog.records
    newest, before = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    whole = newest.read_bytes()
    for content in (b"", whole[:-50], whole[:100], whole + b"x"):
        caplog.clear()
        newest.write_bytes(content)
        assert newest_checkpoint(tmp_path) == {"step": 2}
        said = f"{newest} is damaged, or of another version; this run goes on from the checkpoint before it"
        assert [record.getMessage() for record in caplog.records] == [said]
    caplog.clear()
    newest.unlink()
    assert newest_checkpoint(tmp_path) == {"step": 2} and len(caplog.records) == 1
    before.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"checkpoint.pt is gone; fresh=true starts over|previous.pt is damaged"):
        newest_checkpoint(tmp_path)


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(tmp_path, {"model": {"weight": torch.arange(50.0)}, "progress": {"step": 3, "loss": 0.5}})
    content = path.read_bytes()
    ends = {-66, -65}  # the length of the comment, which nobody reads
    for place in set(range(len(content))) - {len(content) + end for end in ends}:
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match="is damaged, or of another version"):
            load_checkpoint(path)


def test_a_pickle_with_a_right_sum_runs_no_code(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    save_checkpoint(tmp_path, {"model": Code()})
    with pytest.raises(ValueError, match="is damaged, or of another version"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "made").exists()


def test_every_generator_comes_back(tmp_path):
    device = torch.device("cpu")
    np.random.randn()  # leaves a cached normal number behind
    save_checkpoint(tmp_path, random_state(device))

    def drawn():
        return random.random(), np.random.randn(), np.random.rand(), torch.rand(3).tolist(), random.gauss(0, 1)

    first = drawn()
    assert drawn() != first
    set_random_state(load_checkpoint(tmp_path / "checkpoint.pt"), device)
    assert drawn() == first


@pytest.mark.parametrize("state", [{"model": {}}, {"model": {"w": 1}, "callbacks": {}}])
def test_a_checkpoint_of_another_version_is_said_in_one_sentence(state, tmp_path):
    save_checkpoint(tmp_path, state)
    with pytest.raises(ValueError, match="checkpoint.pt is of another version .*; fresh=true starts over"):
        Run(make_setup(), make_settings(), tmp_path)
