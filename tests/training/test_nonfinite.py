"""trainer.on_nonfinite: what a loss or a gradient that is not finite does to a run."""

import json
import math
from dataclasses import replace

import pytest
import torch
from training_problem import SIZE, Field, blobs, make_settings, make_setup

from noderun.data import batches
from noderun.training import build, loop
from noderun.training.isolation import isolated
from noderun.training.progress import Diverged
from noderun.training.run import Run

CPU = torch.device("cpu")


def poisoned(steps, skips=False, **options):
    """A Setup in which the first input is NaN in training steps of these numbers; BatchNorm sees it, too."""
    setup = make_setup(**options)
    data, number = blobs(), iter(range(1, 100))

    def training(split, epoch, start):
        for batch in batches(data, split, SIZE, 0, epoch, start):
            if split == "train" and next(number) in steps:
                batch = replace(batch, inputs=torch.full_like(batch.inputs, math.nan))
            yield batch

    setup.model.insert(1, torch.nn.BatchNorm1d(4, affine=False))
    return replace(setup, batches=training, skips=skips)


def saved(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def train(folder, setup, **options):
    folder.mkdir(exist_ok=True)
    with isolated(CPU, 0):
        return Run(setup, make_settings(**options), folder).complete()


@pytest.mark.parametrize("solved", [False, True])  # a loss that is NaN, and a field that cannot be solved
def test_a_skipped_step_changes_nothing(solved, tmp_path, caplog):
    result = train(tmp_path, poisoned({2, 3, 5}, skips=True, solved=solved), epochs=1)
    assert result["steps"] == 6 and math.isfinite(result["train_loss"])
    told = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert told == [f"the loss or its gradient is not finite in epoch 1, step {n}, which is skipped" for n in (2, 3, 5)]
    state = saved(tmp_path)
    assert all(tensor.isfinite().all() for tensor in state["model"].values())  # the means of BatchNorm too
    assert state["model"]["1.num_batches_tracked"] == 3
    assert {entry["step"].item() for entry in state["optimizer"]["state"].values()} == {3}


def test_a_gradient_that_is_not_finite_is_skipped(tmp_path, monkeypatch):
    norm = loop.clip_grad_norm_
    calls = iter(range(1, 100))
    monkeypatch.setattr(loop, "clip_grad_norm_", lambda *args: norm(*args) * (math.inf if next(calls) == 2 else 1))
    train(tmp_path, poisoned(set(), skips=True, solved=False), epochs=1)
    assert {entry["step"].item() for entry in saved(tmp_path)["optimizer"]["state"].values()} == {5}


def test_ten_steps_in_a_row_are_not_skipped(tmp_path):
    with pytest.raises(Diverged, match="10 steps in a row were not finite up to epoch 2, step 12"):
        train(tmp_path, poisoned(set(range(3, 99)), skips=True, solved=False))


def restored(folder, monkeypatch, poison, **options):
    """The learning rates of the steps of a run that goes back to its last checkpoint."""
    rates = []
    step = loop.train_step

    def noted(setup, batch, number, **keywords):
        rates.append(round(setup.lr_schedule(number) / make_setup().lr_schedule(number), 6))
        return step(setup, batch, number, **keywords)

    monkeypatch.setattr(loop, "train_step", noted)
    setups = iter([poisoned(steps, solved=False) for steps in poison])
    monkeypatch.setattr(build, "make_setup", lambda settings, device: next(setups))
    result = build.train_run(make_settings(on_nonfinite="restore", **options), folder)
    return rates, result


def test_restore_goes_back_to_the_last_checkpoint_at_half_the_learning_rate(tmp_path, monkeypatch):
    rates, result = restored(tmp_path, monkeypatch, [{8}, {3}, set()], epochs=2)
    # six steps and a checkpoint, two more; from the checkpoint three more; from there to the end
    assert rates == [1.0] * 8 + [0.5] * 3 + [0.25] * 6
    assert result["steps"] == 12 and saved(tmp_path)["progress"]["restores"] == 2
    rows = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [4, 6, 8, 12]


def test_restore_gives_up_after_three_times(tmp_path, monkeypatch, caplog):
    with pytest.raises(Diverged, match="in epoch 1, step 2"):
        restored(tmp_path, monkeypatch, [{2}] * 4, epochs=1)
    told = [record.getMessage() for record in caplog.records if "half the learning rate" in record.getMessage()]
    assert len(told) == 3 and told[2].endswith("half the learning rate, 3 of 3")


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    with isolated(CPU, 0):
        run = Run(make_setup(solved=False), make_settings(), tmp_path)
    with torch.no_grad():
        next(run.setup.model.parameters()).fill_(math.inf)
    with pytest.raises(Diverged, match="a weight is not finite after epoch 0, step 0"):
        run.save()
    run.recorder.close()
    assert not (tmp_path / "checkpoint.pt").exists()


class Greedy(Field):
    def forward(self, t, y):
        return super().forward(t, y) + torch.empty(1 << 60).sum()


def test_too_little_memory_is_said_with_its_step(tmp_path):
    with pytest.raises(loop.OutOfMemory, match="out of memory in epoch 1, step 1: try a smaller data.batch_size"):
        train(tmp_path, make_setup(field=Greedy), epochs=1)
