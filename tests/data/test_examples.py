"""A user's data set that no model can learn from is refused in one sentence, before any training."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noderun.data import Batch, Classes, DataError, Dataset, Density, Series, Values, load

COUNT, COUNT_OF_CLASSES = 700, 3  # more than are prepared at a time
CLASSES = Classes(COUNT_OF_CLASSES)


def good(target=CLASSES, **changed):
    """``inputs`` and ``labels`` change the training split, ``train`` and ``test`` a whole split."""
    generator = torch.Generator().manual_seed(0)
    rows = Batch(torch.randn(COUNT, 2, generator=generator), torch.arange(COUNT) % COUNT_OF_CLASSES)
    parts = {"train": rows, "test": rows.rows(slice(9))}
    return Dataset("mine", (2,), target, **parts | changed)


def loaded(make):
    options = SimpleNamespace(
        name="mine",
        root="",
        download=False,
        limit=None,
        test_limit=None,
        validation=0.0,
        augment=False,
        source=None,
        classes=False,
        options={},
    )
    return load(options, "cpu", make=make)


def labels(change):
    return lambda: good(train=replace(good().train, targets=change(good().train.targets)))


def inputs(change):
    return lambda: good(train=replace(good().train, inputs=change(good().train.inputs)))


def series(**changed):
    times = torch.linspace(0, 1, 5).repeat(COUNT, 1)
    parts = {"inputs": torch.zeros(COUNT, 5, 1), "targets": torch.zeros(COUNT, 5, 2), "times": times}
    rows = Batch(**parts | changed)
    return lambda: Dataset("mine", (5, 1), Series(2), rows, rows)


def prepare(function):
    return lambda: good(prepare=function)


def at(index, value):
    def change(part):
        part = part.clone()
        part[index] = value
        return part

    return change


def fails(*arguments):
    raise KeyError("petal")


def broken_later(batch, generator):
    return batch if generator is None else replace(batch, inputs=batch.inputs / 0)


VALUES = Values((2,))
WRONG = {
    "label too large": (labels(at(600, 3)), r"labels are 0 to 2 by Classes\(count=3\), but example 600 has 3"),
    "label negative": (labels(at(5, -1)), r"labels are 0 to 2 by Classes\(count=3\), but example 5 has -1"),
    "labels float": (labels(torch.Tensor.float), "labels are torch.float32; numbers of classes are torch.int64"),
    "labels int32": (labels(torch.Tensor.int), "labels are torch.int32"),
    "labels in a column": (labels(lambda x: x[:, None]), r"labels have shape \(512, 1\); 512 examples have \(512,\)"),
    "one label": (labels(torch.zeros_like), "all labels of train are 0: there is nothing to tell apart"),
    "one class": (lambda: good(Classes(1)), r"target is Classes\(1\); the count is a number from 2"),
    "classes a word": (lambda: good(Classes("3")), "target is Classes.'3'.; the count is a number from 2"),
    "a target of no kind": (lambda: good(3), r"target is 3; it is Classes\(count\), Values"),
    "a shape of no kind": (lambda: replace(good(), shape=(2, 2)), r"shape=\(2, 2\) is neither \[D\] nor \[C, H, W\]"),
    "inputs of another shape": (inputs(lambda x: x[:, :1]), r"one input has shape \(1,\), but shape=\(2,\) was said"),
    "inputs double": (inputs(torch.Tensor.double), "inputs are torch.float64; a model takes torch.float32"),
    "inputs bytes": (inputs(torch.Tensor.byte), "inputs are torch.uint8; a model takes torch.float32"),
    "an input NaN": (inputs(at((650, 1), torch.nan)), "train: inputs of example 650 hold NaN or infinity"),
    "targets infinite": (
        lambda: good(VALUES, train=Batch(good().train.inputs, good().train.inputs.log())),
        "targets of example 0 hold NaN or infinity",
    ),
    "targets int": (lambda: good(VALUES), "targets are torch.int64; a model takes torch.float32"),
    "targets of another shape": (
        lambda: good(Values((3,)), train=Batch(good().train.inputs, good().train.inputs)),
        r"one target has shape \(2,\), but target=Values\(shape=\(3,\)\) needs \(3,\)",
    ),
    "no labels": (lambda: good(train=Batch(good().train.inputs)), "there are no targets, but target=Classes"),
    "targets of a density": (lambda: good(Density(2)), "a density is learned from the inputs alone"),
    "a split empty": (lambda: good(test=Batch(torch.zeros(0, 2), torch.zeros(0))), "one common leading length > 0"),
    "a split missing": (lambda: good(test=None), "test is a Batch of tensors"),
    "a split a tuple": (lambda: good(test=(torch.zeros(3, 2), torch.zeros(3))), "test is a Batch of tensors"),
    "a split of lists": (lambda: good(test=Batch([1.0], [0])), "test is a Batch of tensors"),
    "the test alone": (
        lambda: good(test=replace(good().test, targets=good().test.targets + 2)),
        "mine, test: labels are 0 to 2",
    ),
    "series out of order": (
        series(times=torch.zeros(COUNT, 5) - torch.arange(5)),
        "times of example 0 do not increase",
    ),
    "series in one row of times": (series(times=torch.zeros(COUNT)), "they are .B, T., a row per example"),
    "series with a wrong mask": (
        series(mask=torch.ones(COUNT, 5)),
        r"mask is torch.float32 \(512, 5\); it is torch.bool",
    ),
    "series of other targets": (series(targets=torch.zeros(COUNT, 5)), r"target=Series\(dim=2\) needs \(5, 2\)"),
    "observed NaN": (
        series(inputs=torch.full((COUNT, 5, 1), torch.nan), mask=torch.ones(COUNT, 5).bool()),
        "inputs of example 0 hold NaN",
    ),
    "series without times": (lambda: good(Series(2), train=Batch(torch.zeros(9, 2), torch.zeros(9, 2))), "no times"),
    "prepare raises": (prepare(fails), "mine: prepare raised KeyError: 'petal'"),
    "prepare returns nothing": (prepare(lambda *a: None), "prepare returns a Batch, not NoneType"),
    "prepare loses the index": (prepare(lambda b, g: Batch(b.inputs, b.targets)), "prepare lost the index; change its"),
    "prepare loses rows": (
        prepare(lambda b, g: replace(b, targets=b.targets[:3])),
        "that prepare returns need one leading length",
    ),
    "prepare in training": (prepare(broken_later), "mine, train with a generator: inputs of example 0 hold NaN"),
    "the class raises": (fails, "mine could not be made: KeyError: 'petal'"),
    "the class returns nothing": (lambda: None, "expected a noderun.data.Dataset, got NoneType"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_no_model_can_learn_from_is_one_sentence(wrong):
    make, words = WRONG[wrong]
    with pytest.raises(DataError, match=words) as caught:
        loaded(make)
    assert "\n" not in str(caught.value)


RIGHT = {
    "vectors with classes": good,
    "bytes that prepare makes floats": lambda: good(
        train=replace(good().train, inputs=good().train.inputs.byte()),
        test=replace(good().test, inputs=good().test.inputs.byte()),
        prepare=lambda batch, generator: replace(batch, inputs=batch.inputs.float()),
    ),
    "regression": lambda: good(
        VALUES,
        train=Batch(good().train.inputs, good().train.inputs),
        test=Batch(good().test.inputs, good().test.inputs),
    ),
    "a density": lambda: good(Density(2), train=Batch(good().train.inputs), test=Batch(good().test.inputs)),
    "a series": series(),
    "a series with gaps": series(
        inputs=torch.full((COUNT, 5, 1), torch.nan),
        targets=torch.full((COUNT, 5, 2), torch.nan),
        mask=torch.zeros(COUNT, 5).bool(),
    ),
}


@pytest.mark.parametrize("right", RIGHT)
def test_what_can_be_learned_from_is_taken(right):
    assert loaded(RIGHT[right]).name == "mine"


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.sampled_from(["train", "test"]), st.floats(0, 1, exclude_max=True), st.integers(-(2**62), 2**62))
def test_a_wrong_label_is_found_wherever_it_stands(split, at_share, value):
    dataset = good()
    numbers = getattr(dataset, split).targets
    index = int(at_share * len(numbers))
    changed = {split: replace(getattr(dataset, split), targets=at(index, value)(numbers))}
    make = lambda: good(**changed)  # noqa: E731
    if 0 <= value < COUNT_OF_CLASSES:
        loaded(make)
    else:
        with pytest.raises(DataError, match=f"mine, {split}: labels .* example {index} has {value}$"):
            loaded(make)
