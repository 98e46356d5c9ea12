"""A user's data set that no model can learn from is refused in one sentence, before any training."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noderun.data import DataError, Dataset, load

COUNT, CLASSES = 700, 3  # more than are prepared at a time


def good(**changed):
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(COUNT, 2, generator=generator), torch.arange(COUNT) % CLASSES
    parts = {"train": (inputs, labels), "test": (inputs[:9], labels[:9]), "classes": CLASSES}
    return Dataset("mine", "vector", (2,), **parts | changed)


def loaded(make):
    options = SimpleNamespace(name="mine", root="", download=False, limit=None, augment=False, options={})
    return load(options, "cpu", make=make)


def labels(change):
    return lambda: good(train=(good().train[0], change(good().train[1])))


def inputs(change):
    return lambda: good(train=(change(good().train[0]), good().train[1]))


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
    return batch if generator is None else (batch[0] / 0, batch[1])


WRONG = {
    "label too large": (labels(at(600, 3)), "labels are 0 to 2 by classes=3, but example 600 has 3"),
    "label negative": (labels(at(5, -1)), "labels are 0 to 2 by classes=3, but example 5 has -1"),
    "labels float": (labels(torch.Tensor.float), "labels are torch.float32; numbers of classes are torch.int64"),
    "labels int32": (labels(torch.Tensor.int), "labels are torch.int32"),
    "labels in a column": (labels(lambda x: x[:, None]), r"labels have shape \(512, 1\); 512 examples have \(512,\)"),
    "one label": (labels(torch.zeros_like), "all labels of train are 0: there is nothing to tell apart"),
    "one class": (lambda: good(classes=1), "classes is 1; it is a number from 2, or None"),
    "classes a word": (lambda: good(classes="3"), "classes is 3; it is a number from 2"),
    "inputs of another shape": (inputs(lambda x: x[:, :1]), r"one input has shape \(1,\), but shape=\(2,\) was said"),
    "inputs double": (inputs(torch.Tensor.double), "inputs are torch.float64; a model takes torch.float32"),
    "inputs bytes": (inputs(torch.Tensor.byte), "inputs are torch.uint8; a model takes torch.float32"),
    "an input NaN": (inputs(at((650, 1), torch.nan)), "train: inputs of example 650 hold NaN or infinity"),
    "targets infinite": (
        lambda: good(classes=None, train=(good().train[0], good().train[0].log())),
        "targets of example 0 hold NaN or infinity",
    ),
    "targets int": (lambda: good(classes=None), "targets are torch.int64; a model takes torch.float32"),
    "no labels": (lambda: good(train=good().train[:1], test=good().test[:1]), r"a batch is \(inputs, labels\), not 1"),
    "a split empty": (lambda: good(test=(torch.zeros(0, 2), torch.zeros(0))), "one common leading length > 0"),
    "a split missing": (lambda: good(test=None), "test is a tuple of tensors"),
    "a split of lists": (lambda: good(test=([1.0], [0])), "test is a tuple of tensors"),
    "the test alone": (lambda: good(test=(good().test[0], good().test[1] + 2)), "mine, test: labels are 0 to 2"),
    "prepare raises": (prepare(fails), "mine: prepare raised KeyError: 'petal'"),
    "prepare returns nothing": (
        prepare(lambda *a: None),
        "prepare returns the batch, a tuple of tensors, not NoneType",
    ),
    "prepare loses rows": (prepare(lambda b, g: (b[0], b[1][:3])), "that prepare returns need one leading length"),
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
        train=(good().train[0].byte(), good().train[1]),
        test=(good().test[0].byte(), good().test[1]),
        prepare=lambda batch, generator: (batch[0].float(), batch[1]),
    ),
    "regression": lambda: good(classes=None, train=good().train[:1] * 2, test=good().test[:1] * 2),
    "inputs alone": lambda: good(classes=None, train=good().train[:1], test=good().test[:1]),
    "a series with gaps": lambda: replace(
        good(classes=None, train=(torch.full((4, 2), torch.nan), torch.ones(4, 2).bool()), test=good().test[:1]),
        kind="series",
    ),
    "lists of tensors": lambda: good(train=list(good().train)),
}


@pytest.mark.parametrize("right", RIGHT)
def test_what_can_be_learned_from_is_taken(right):
    assert loaded(RIGHT[right]).name == "mine"


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.sampled_from(["train", "test"]), st.floats(0, 1, exclude_max=True), st.integers(-(2**62), 2**62))
def test_a_wrong_label_is_found_wherever_it_stands(split, at_share, value):
    dataset = good()
    rows, numbers = getattr(dataset, split)
    index = int(at_share * len(numbers))
    make = lambda: good(**{split: (rows, at(index, value)(numbers))})  # noqa: E731
    if 0 <= value < CLASSES:
        loaded(make)
    else:
        with pytest.raises(DataError, match=f"mine, {split}: labels .* example {index} has {value}$"):
            loaded(make)
