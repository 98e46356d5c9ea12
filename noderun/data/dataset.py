"""A data set, and batches of it that depend on nothing but (seed, epoch, index)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noderun.data.files import DataError

Batch = tuple[Tensor, ...]
Prepare = Callable[[Batch, torch.Generator | None], Batch]


def unchanged(batch: Batch, generator: torch.Generator | None) -> Batch:
    return batch


@dataclass(frozen=True)
class Dataset:
    """Examples as tensors: ``train`` and ``test`` are tuples with a common leading dimension, e.g. (images, labels).

    ``shape`` is one example's, without the batch dimension. ``prepare(batch, generator)`` turns raw rows into what a
    model takes; it is given a generator in training (augmentation, noise, or whole fresh samples in place of the rows)
    and None in testing, and runs on the rows' device.
    """

    name: str
    kind: str  # image | vector | series: what Model.takes lists
    shape: tuple[int, ...]
    classes: int | None
    train: Batch
    test: Batch
    prepare: Prepare = unchanged

    def __post_init__(self) -> None:
        for split, tensors in (("train", self.train), ("test", self.test)):
            parts = tensors if isinstance(tensors, tuple | list) else ()
            if not parts or not all(isinstance(part, Tensor) and part.dim() > 0 for part in parts):
                raise DataError(f"{self.name}: {split} is a tuple of tensors, for instance (inputs, labels)")
            lengths = {len(part) for part in parts}
            if len(lengths) != 1 or 0 in lengths:
                found = [tuple(part.shape) for part in parts]
                raise DataError(f"{self.name}: the tensors of {split} need one common leading length > 0, got {found}")
        if self.classes is not None and not (isinstance(self.classes, int) and self.classes > 1):
            wanted = "a number from 2, or None for targets that are no classes"
            raise DataError(f"{self.name}: classes is {self.classes}; it is {wanted}")

    def to(self, device: torch.device | str) -> Dataset:
        train, test = (tuple(tensor.to(device) for tensor in split) for split in (self.train, self.test))
        return replace(self, train=train, test=test)

    def limited(self, count: int) -> Dataset:
        """The first ``count`` training examples of one fixed shuffled order, so that classes stay nearly balanced."""
        order = _permutation(len(self.train[0]), _stream("limit"))[:count].to(self.train[0].device)
        return replace(self, train=tuple(tensor[order] for tensor in self.train))


def batch_count(dataset: Dataset, split: str, size: int) -> int:
    """Batches in an epoch; the last one may be partial."""
    return -(-len(_rows(dataset, split)[0]) // size)


def batches(dataset: Dataset, split: str, size: int, seed: int = 0, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
    """Prepared batches ``start, start + 1, ...`` of one epoch: shuffled for "train", in order for "test"."""
    rows = _rows(dataset, split)
    device = rows[0].device
    training = split == "train"
    order = _permutation(len(rows[0]), _stream(seed, epoch)).to(device) if training else None
    generator = torch.Generator(device)
    for index in range(start, batch_count(dataset, split, size)):
        window = slice(index * size, (index + 1) * size)
        if order is None:
            batch = tuple(tensor[window] for tensor in rows)
        else:
            chosen = order[window]
            batch = tuple(tensor.index_select(0, chosen) for tensor in rows)  # ten times faster than tensor[chosen]
        yield dataset.prepare(batch, generator.manual_seed(_stream(seed, epoch, index)) if training else None)


def _rows(dataset: Dataset, split: str) -> Batch:
    splits = {"train": dataset.train, "test": dataset.test}
    if split not in splits:
        raise ValueError(f"no split {split!r}; there are 'train' and 'test'")
    return splits[split]


def _permutation(count: int, seed: int) -> Tensor:
    # Drawn on the CPU whatever the device, so that all devices see one order.
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _stream(*key: int | str) -> int:
    """An independent 63-bit seed for each key; nearby keys share nothing."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
