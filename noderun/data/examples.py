"""What a data set of a user's must be for a model to learn from it, looked through before any training."""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.data.dataset import Batch, Dataset
from noderun.data.files import DataError

CHUNK = 512  # examples that are prepared at a time


def check_examples(dataset: Dataset) -> None:
    """Raises DataError, in one sentence, if a prepared batch is not what a model takes.

    Every example of both splits is prepared once as in testing, and the first batch as in training.
    """
    seen: set[int] = set()
    for split, rows in (("train", dataset.train), ("test", dataset.test)):
        for start in range(0, len(rows[0]), CHUNK):
            batch = prepared(dataset, tuple(part[start : start + CHUNK] for part in rows), None)
            check_batch(dataset, batch, f"{dataset.name}, {split}", start)
            if split == "train" and dataset.classes is not None:
                seen.update(batch[1].unique().tolist())
    if len(seen) == 1:
        raise DataError(f"{dataset.name}: all labels of train are {seen.pop()}: there is nothing to tell apart")
    first = tuple(part[:CHUNK] for part in dataset.train)
    generator = torch.Generator(first[0].device).manual_seed(0)
    check_batch(dataset, prepared(dataset, first, generator), f"{dataset.name}, train with a generator", 0)


def prepared(dataset: Dataset, rows: Batch, generator: torch.Generator | None) -> Batch:
    try:
        batch = dataset.prepare(rows, generator)
    except Exception as error:
        raise DataError(f"{dataset.name}: prepare raised {said(error)}") from error
    if not (isinstance(batch, tuple | list) and batch and all(isinstance(part, Tensor) for part in batch)):
        raise DataError(f"{dataset.name}: prepare returns the batch, a tuple of tensors, not {type(batch).__name__}")
    lengths = {len(part) if part.dim() else 0 for part in batch}
    if len(lengths) != 1:
        found = [tuple(part.shape) for part in batch]
        raise DataError(f"{dataset.name}: the tensors that prepare returns need one leading length, got {found}")
    return tuple(batch)


def check_batch(dataset: Dataset, batch: Batch, where: str, start: int) -> None:
    """``start`` is the number of the batch's first example in its split."""
    inputs, *others = batch
    check_numbers(inputs, f"{where}: inputs", start, may_lack=dataset.kind == "series")
    if tuple(inputs.shape[1:]) != tuple(dataset.shape):
        found, said = tuple(inputs.shape[1:]), tuple(dataset.shape)
        raise DataError(f"{where}: one input has shape {found}, but shape={said} was said")
    if dataset.classes is None:
        if dataset.kind != "series":  # which may have times and masks beside its values
            for part in others:
                check_numbers(part, f"{where}: targets", start)
    elif len(others) != 1:
        raise DataError(f"{where}: with classes a batch is (inputs, labels), not {len(batch)} tensors")
    else:
        check_labels(others[0], dataset.classes, len(inputs), f"{where}: labels", start)


def check_numbers(part: Tensor, what: str, start: int, may_lack: bool = False) -> None:
    if part.dtype != torch.float32:
        raise DataError(f"{what} are {part.dtype}; a model takes torch.float32, which .float() makes")
    finite = part.flatten(1).isfinite().all(1) if part.dim() > 1 else part.isfinite()
    if not (may_lack or finite.all()):
        raise DataError(f"{what} of example {start + int(finite.int().argmin())} hold NaN or infinity")


def check_labels(labels: Tensor, classes: int, count: int, what: str, start: int) -> None:
    if labels.dtype != torch.int64:
        raise DataError(f"{what} are {labels.dtype}; numbers of classes are torch.int64, which .long() makes")
    if labels.shape != (count,):
        raise DataError(f"{what} have shape {tuple(labels.shape)}; {count} examples have ({count},), a number each")
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        worst = int(outside.int().argmax())
        number = int(labels[worst])
        raise DataError(f"{what} are 0 to {classes - 1} by classes={classes}, but example {start + worst} has {number}")


def said(error: Exception) -> str:
    """An exception of a user's code as the end of a sentence."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(": ")
