"""A run's files damaged in any way: taken up, it ends as if nothing had happened, or says so in one sentence."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from training_problem import make_settings, make_setup

from noderun.record.metrics import read_metrics
from noderun.training.isolation import isolated
from noderun.training.run import Run

CPU = torch.device("cpu")
FILES = ("checkpoint.pt", "checkpoint.previous.pt", "metrics.jsonl")
TIMED = ("time/step_ms", "time/examples_per_s", "memory/peak_mib")


def train(folder, stop_at=None):
    with isolated(CPU, 0):
        run = Run(make_setup(solved=False), make_settings(epochs=3, checkpoint_seconds=1e-9), folder)
        if stop_at is not None:
            pause = run.on_step_end

            def stop():  # after a checkpoint, with a row that it does not vouch for
                if run.progress.step == stop_at:
                    run.on_log({"loss/train": 1.0})
                    raise KeyboardInterrupt
                pause()

            run.on_step_end = stop
        run.complete()


def outcome(folder):
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    rows = [{k: v for k, v in row.items() if k not in TIMED} for row in read_metrics(folder / "metrics.jsonl")]
    return weights, rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return outcome(folder)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The files of a run that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(folder, stop_at=10)
    return {name: (folder / name).read_bytes() for name in FILES}


def flip(data, at, bit):
    place = int(at * len(data))
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def truncate(data, at, bit):
    return data[: int(at * len(data))]


def drop(data, at, bit):
    """A line, of a text, or what lies between two bytes 10."""
    lines = data.splitlines(keepends=True)
    del lines[int(at * len(lines))]
    return b"".join(lines)


def double(data, at, bit):
    lines = data.splitlines(keepends=True)
    place = int(at * len(lines))
    return b"".join([*lines[: place + 1], *lines[place:]])


def zero(data, at, bit):
    """A block that never reached the disk."""
    place = int(at * len(data))
    size = min(64 << bit, len(data) - place)
    return data[:place] + bytes(size) + data[place + size :]


def append(data, at, bit):
    return data + data[int(at * len(data)) :]


@settings(max_examples=120, derandomize=True, deadline=None)
@given(
    name=st.sampled_from(FILES),
    mutation=st.sampled_from([flip, truncate, drop, double, zero, append]),
    at=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
@example(name="metrics.jsonl", mutation=drop, at=0.0, bit=0)
@example(name="metrics.jsonl", mutation=double, at=0.0, bit=0)
@example(name="checkpoint.pt", mutation=flip, at=0.5, bit=0)
def test_no_damage_changes_the_outcome_without_a_word(name, mutation, at, bit, whole, stopped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    for file, data in stopped.items():
        (folder / file).write_bytes(mutation(data, at, bit) if file == name else data)
    try:
        train(folder)
    except ValueError as error:
        sentence = str(error)
        assert name == "metrics.jsonl", "of two checkpoints one is whole"
        assert name in sentence and "fresh=true" in sentence and "\n" not in sentence
        return
    torch.testing.assert_close(outcome(folder), whole, rtol=0, atol=0)


def test_the_run_that_is_damaged_resumes_where_it_is_whole(whole, stopped, tmp_path):
    for file, data in stopped.items():
        (tmp_path / file).write_bytes(data)
    train(tmp_path)
    torch.testing.assert_close(outcome(tmp_path), whole, rtol=0, atol=0)
