"""Series: what a task gives and asks, packing, and the generated sets."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from noderun.data import SETS, DataError
from noderun.data.examples import check_examples
from noderun.data.series import Question, Records, packed, series_dataset

GENERATED = [
    (name, task)
    for name, source in SETS.items()
    for task in source.tasks
    if not (source.require or source.examined or source.check)  # those with a check have one question: test_pde
]


def records(count=3, length=6):
    values = torch.arange(float(count * length)).reshape(count, length, 1) + 1
    mask = torch.ones(count, length, 1, dtype=torch.bool)
    mask[1:2, 4:] = False
    return Records(values, torch.arange(float(length)).expand(count, length), mask, truth=values + 0.5)


def test_packing_moves_points_to_the_front_and_pads_with_the_last_time():
    values, times = torch.arange(8.0).reshape(1, 4, 2) + 1, torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    mask = torch.tensor([[[False, False], [True, False], [False, False], [True, True]]])
    both = [torch.cat([a, b]) for a, b in zip((values, times, mask), (values, times, mask & False | True), strict=True)]
    found, when, kept = packed(*both)
    assert found[0].tolist() == [[3, 0], [7, 8], [0, 0], [0, 0]] and when[0].tolist() == [1, 3, 3, 3]
    assert kept[0].tolist() == [[True, False], [True, True], [False, False], [False, False]]
    assert torch.equal(found[1], values[0])


def test_a_forecast_sees_the_past_alone_and_a_test_is_scored_against_the_truth():
    batch = Question("forecast", history=0.4).of(records(), 0, test=True)
    assert batch.inputs.shape == (3, 3, 1) and batch.times.max() == 2
    assert batch.target_times[0].tolist() == [3, 4, 5] and batch.target_mask[1, :, 0].tolist() == [True, False, False]
    assert torch.equal(batch.targets[0], records().truth[0, 3:])
    assert torch.equal(Question("forecast", history=0.4).of(records(), 0, False).targets[0], records().values[0, 3:])


@pytest.mark.parametrize("score", ["all", "held_out"])
def test_a_share_of_the_points_is_observed_whatever_else_is_in_the_set(score):
    given = Question("interpolate", 0.5, score=score).of(records(), 3, test=False)
    assert given.mask.flatten(1).sum(1).tolist() == [3, 2, 3]
    seen = [set(row[kept].tolist()) for row, kept in zip(given.inputs, given.mask, strict=True)]
    asked = [set(row[kept].tolist()) for row, kept in zip(given.targets, given.target_mask, strict=True)]
    assert all(a.isdisjoint(s) if score == "held_out" else s < a for a, s in zip(asked, seen, strict=True))
    alone = Question("interpolate", 0.5, score=score).of(records(count=1), 3, test=False)
    assert set(alone.inputs[alone.mask].tolist()) == seen[0]


def test_a_channel_that_is_constant_but_for_rounding_is_not_scaled_by_what_rounding_left():
    rounded = torch.tensor([1e-5, 1e-5 * (1 + 1.2e-7)]).repeat(3, 3).unsqueeze(-1)
    train = dataclasses.replace(records(), values=rounded)
    other = dataclasses.replace(records(), values=torch.zeros(3, 6, 1))
    assert series_dataset("mine", train, other, "interpolate").test.inputs.abs().max() < 1e-4


def test_held_out_needs_something_held_out():
    with pytest.raises(DataError, match=r"data\.score=held_out .* data\.observed below 1"):
        Question("interpolate", score="held_out")


def test_a_series_with_one_point_is_left_out_with_a_word_if_points_are_held_out(capsys):
    full = records()
    mask = full.mask.clone()
    mask[1, 1:] = False
    mask[2, 2:] = False
    short = dataclasses.replace(full, mask=mask)
    dataset = series_dataset("mine", short, full, "interpolate", observed=0.9, score="held_out")
    assert dataset.train.inputs.shape[0] == 2 and dataset.test.inputs.shape[0] == 3
    assert dataset.train.target_mask.flatten(1).sum(1).tolist() == [1, 1]  # one point of two is held out, though 0.9
    assert capsys.readouterr().err.startswith("noderun: mine, train: 1 series with one point are left out")


@pytest.mark.parametrize(("name", "task"), GENERATED)
def test_generated_sets_are_the_same_each_time_and_fit_their_target(name, task, tmp_path):
    size = {"points": 40} if name == "cubic_spiral" else {"examples": 20}  # whose examples are parts of one series
    options = {"task": task, "observed": 0.7} | size
    one, two = (SETS[name].read(tmp_path, **options) for _ in range(2))
    check_examples(one)
    assert isinstance(one.target, SETS[name].targets_of(options)) and one.sample == "series"
    for split in ("train", "test"):
        parts, again = getattr(one, split).parts(), getattr(two, split).parts()
        assert all(torch.equal(part, again[key]) for key, part in parts.items())
    assert not torch.equal(one.train.inputs[: len(one.test)], one.test.inputs[: len(one.train)])


def test_the_times_of_a_point_process_follow_its_rate():
    """The mean count of a series is the integral of the rate, 20 per unit of time over two, within three errors."""
    dataset = SETS["point_process"].read(Path("nowhere"), examples=2000)
    counts = dataset.train.target_mask[..., 0].sum(1).double()
    assert abs(counts.mean() - 40) < 3 * (40 / 2000) ** 0.5
    assert counts.var() == pytest.approx(40, rel=0.1)
    early = (dataset.train.target_times < 0.5) & dataset.train.target_mask[..., 0]
    assert early.sum(1).double().mean() == pytest.approx(10 + 16 / math.pi, rel=0.02)  # of 20 (1 + 0.8 sin(2 pi t))
