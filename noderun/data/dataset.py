"""A data set, and batches of it that depend only on (seed, epoch, number of the batch)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.files import DataError
from noderun.data.targets import Classes, Target

Prepare = Callable[[Batch, torch.Generator | None], Batch]
SAMPLES = {1: "vector", 3: "image"}  # number of dimensions of an example -> what a model calls it


def rows_as_they_are(batch: Batch, generator: torch.Generator | None) -> Batch:
    return batch


@dataclass(frozen=True)
class Dataset:
    """Examples as tensors, and what is to be learned from them.

    ``shape`` is the shape of one input, without the batch dimension: [C, H, W] of images, [D] of vectors, [T, D] of
    series, whose batches have ``times`` and may be shorter or longer. ``prepare(batch, generator)`` turns raw rows into
    what a model takes: ``dataclasses.replace(batch, inputs=...)``. It is given a generator in training (for
    augmentation, noise, or fresh samples in place of the rows) and None in testing, and runs on the device of the rows.
    Of a set with a ``validation`` split, a run keeps the weights that were best on it.

    Raises DataError if the splits are not Batches of tensors with one leading dimension.
    """

    name: str
    shape: tuple[int, ...]
    target: Target
    train: Batch
    test: Batch
    prepare: Prepare = rows_as_they_are
    validation: Batch | None = None

    def __post_init__(self) -> None:
        for split, rows in self.splits.items():
            parts = list(rows.parts().values()) if isinstance(rows, Batch) else []
            if not parts or not all(isinstance(part, Tensor) and part.dim() > 0 for part in parts):
                raise DataError(f"{self.name}: {split} is a Batch of tensors, for instance Batch(inputs, labels)")
            lengths = {len(part) for part in parts}
            if len(lengths) != 1 or 0 in lengths:
                found = [tuple(part.shape) for part in parts]
                raise DataError(f"{self.name}: the tensors of {split} need one common leading length > 0, got {found}")
        if not isinstance(self.target, Target):
            raise DataError(
                f"{self.name}: target is {self.target!r}; it is Classes(count), Values(shape), Density(dim), "
                "Energy(dim, energy), Levels(dim, count) or Series(dim)"
            )
        if isinstance(self.target, Classes) and not (isinstance(self.target.count, int) and self.target.count > 1):
            raise DataError(f"{self.name}: target is Classes({self.target.count!r}); the count is a number from 2")
        if self.sample == "unknown":
            raise DataError(
                f"{self.name}: shape={tuple(self.shape)} is neither [D] nor [C, H, W], and there are no times as a "
                "series has them"
            )

    @property
    def sample(self) -> str:
        """image, vector or series: what a model's ``takes`` lists."""
        return "series" if self.train.times is not None else SAMPLES.get(len(self.shape), "unknown")

    @property
    def splits(self) -> dict[str, Batch]:
        """The rows of train, test and, if there are any, validation."""
        splits = {"train": self.train, "test": self.test}
        return splits if self.validation is None else {**splits, "validation": self.validation}

    def to(self, device: torch.device | str) -> Dataset:
        return self.map(lambda rows: rows.to(device))

    def map(self, change: Callable[[Batch], Batch]) -> Dataset:
        """The set with each of its splits changed."""
        validation = None if self.validation is None else change(self.validation)
        return replace(self, train=change(self.train), test=change(self.test), validation=validation)

    def validated(self, share: float) -> Dataset:
        """A ``share`` of the training examples, of one fixed shuffled order, is split off for validation.

        A set that has such a split, or a share of 0, is left as it is. Raises DataError if no examples would be left.
        """
        if self.validation is not None or share == 0:
            return self
        count = round(share * len(self.train))
        if not 0 < count < len(self.train):
            raise DataError(
                f"{self.name}: data.validation={share:g} of {len(self.train)} training examples is {count} to validate "
                f"on and {len(self.train) - count} to train on; there has to be one of each"
            )
        order = _permutation(len(self.train), _stream("validation")).to(self.train.inputs.device)
        kept, held = order[count:].sort().values, order[:count].sort().values
        return replace(self, train=self.train.rows(kept), validation=self.train.rows(held))

    def limited(self, train: int | None, test: int | None = None) -> Dataset:
        """So many training and test examples, the first of one fixed shuffled order, so that classes stay nearly
        balanced; None: all."""
        return replace(self, train=_first(self.train, train), test=_first(self.test, test))


def batch_count(dataset: Dataset, split: str, size: int) -> int:
    """Batches per epoch; the last one may be partial."""
    return -(-len(_rows(dataset, split)) // size)


def batches(dataset: Dataset, split: str, size: int, seed: int = 0, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
    """Prepared batches ``start, start + 1, ...`` of one epoch: shuffled for "train", else in order."""
    rows = _rows(dataset, split)
    device = rows.inputs.device
    training = split == "train"
    order = _permutation(len(rows), _stream(seed, epoch)).to(device) if training else torch.arange(len(rows)).to(device)
    generator = torch.Generator(device)
    for number in range(start, batch_count(dataset, split, size)):
        window = slice(number * size, (number + 1) * size)
        index = order[window]
        batch = replace(rows.rows(index if training else window), index=index)
        yield dataset.prepare(batch, generator.manual_seed(_stream(seed, epoch, number)) if training else None)


def _rows(dataset: Dataset, split: str) -> Batch:
    if split not in dataset.splits:
        raise ValueError(f"no split {split!r}; there are {' and '.join(map(repr, dataset.splits))}")
    return dataset.splits[split]


def _first(rows: Batch, count: int | None) -> Batch:
    if count is None:
        return rows
    return rows.rows(_permutation(len(rows), _stream("limit"))[:count].to(rows.inputs.device))


def _permutation(count: int, seed: int) -> Tensor:
    # Drawn on the CPU whatever the device, so that all devices see one order.
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _stream(*key: int | str) -> int:
    """An independent 63-bit seed for each key; nearby keys share nothing."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
