"""Checks of a user's data set before any training: can a model learn from its examples?"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataError
from noderun.data.targets import Classes, Density, Energy, Levels, Series, Values

CHUNK = 512  # examples that are prepared at a time


def check_examples(dataset: Dataset) -> None:
    """Raise DataError, in one sentence, if a prepared batch is not what a model takes.

    Every example of all splits is prepared once as in testing, and the first batch as in training.
    """
    seen: set[int] = set()
    for split, rows in dataset.splits.items():
        for start in range(0, len(rows), CHUNK):
            batch = prepared(dataset, rows, start, None)
            check_batch(dataset, batch, f"{dataset.name}, {split}", start)
            if split == "train" and isinstance(dataset.target, Classes):
                assert batch.targets is not None
                seen.update(batch.targets.unique().tolist())
    if len(seen) == 1:
        raise DataError(f"{dataset.name}: all labels of train are {seen.pop()}: there is nothing to tell apart")
    generator = torch.Generator(dataset.train.inputs.device).manual_seed(0)
    check_batch(dataset, prepared(dataset, dataset.train, 0, generator), f"{dataset.name}, train with a generator", 0)


def prepared(dataset: Dataset, rows: Batch, start: int, generator: torch.Generator | None) -> Batch:
    """The chunk of ``rows`` from ``start``, prepared as in training (with a generator) or testing."""
    index = torch.arange(start, min(start + CHUNK, len(rows)), device=rows.inputs.device)
    try:
        batch = dataset.prepare(replace(rows.rows(index), index=index), generator)
    except Exception as error:
        raise DataError(f"{dataset.name}: prepare raised {said(error)}") from error
    if not isinstance(batch, Batch):
        raise DataError(f"{dataset.name}: prepare returns a Batch, not {type(batch).__name__}")
    if batch.index is None:
        raise DataError(f"{dataset.name}: prepare lost the index; change its batch by dataclasses.replace(batch, ...)")
    parts = batch.parts().values()
    if len({len(part) for part in parts}) != 1:
        found = [tuple(part.shape) for part in parts]
        raise DataError(f"{dataset.name}: the tensors that prepare returns need one leading length, got {found}")
    return batch


def check_batch(dataset: Dataset, batch: Batch, where: str, start: int) -> None:
    """``start`` is the number of the batch's first example in its split."""
    target, inputs, targets = dataset.target, batch.inputs, batch.targets
    check_numbers(inputs, f"{where}: inputs", start, batch.mask)
    free = int(dataset.sample == "series")  # the length of a series is its own
    if tuple(inputs.shape[1 + free :]) != tuple(dataset.shape[free:]):
        found, said = tuple(inputs.shape[1:]), tuple(dataset.shape)
        raise DataError(f"{where}: one input has shape {found}, but shape={said} was said")
    if dataset.sample == "series":
        check_times(batch, where, start)
    if isinstance(target, Density) and target.classes is not None:
        target = Classes(target.classes)
    if isinstance(target, Density | Energy | Levels):
        if targets is not None:
            raise DataError(f"{where}: a density is learned from the inputs alone, but there are targets")
    elif targets is None:
        raise DataError(f"{where}: there are no targets, but target={target} was said")
    elif isinstance(target, Classes):
        check_labels(targets, target.count, len(inputs), f"{where}: labels", start)
    else:
        counted = batch.mask if batch.target_times is None else batch.target_mask
        check_numbers(targets, f"{where}: targets", start, counted if isinstance(target, Series) else None)
        check_target_shape(target, batch, where)


def check_target_shape(target: Values | Series, batch: Batch, where: str) -> None:
    assert batch.targets is not None
    if isinstance(target, Values):
        wanted = tuple(target.shape)
    elif batch.times is None:
        raise DataError(f"{where}: target={target} asks for values at times, but there are no times")
    else:
        when = batch.times if batch.target_times is None else batch.target_times
        wanted = (when.shape[1], target.dim)
    if tuple(batch.targets.shape[1:]) != wanted:
        found = tuple(batch.targets.shape[1:])
        raise DataError(f"{where}: one target has shape {found}, but target={target} needs {wanted}")


def check_times(batch: Batch, where: str, start: int) -> None:
    if batch.times is None:
        raise DataError(f"{where}: prepare lost the times")
    check_ordered(batch.times, batch.mask, batch.inputs, where, "", start)
    if batch.target_times is not None and batch.targets is not None:
        check_ordered(batch.target_times, batch.target_mask, batch.targets, where, "target_", start)


def check_ordered(times: Tensor, mask: Tensor | None, values: Tensor, where: str, kind: str, start: int) -> None:
    """Times [B, T] in order, and a mask [B, T] or of the values' own shape [B, T, D]."""
    check_numbers(times, f"{where}: {kind}times", start)
    if times.dim() != 2:
        raise DataError(f"{where}: {kind}times have shape {tuple(times.shape)}; they are [B, T], a row per example")
    unordered = (times.diff() < 0).any(1)
    if unordered.any():
        raise DataError(f"{where}: {kind}times of example {start + int(unordered.int().argmax())} do not increase")
    if mask is not None and (mask.dtype != torch.bool or mask.shape not in (times.shape, values.shape)):
        raise DataError(
            f"{where}: {kind}mask is {mask.dtype} {tuple(mask.shape)}; it is torch.bool {tuple(times.shape)}, as times "
            f"are, or {tuple(values.shape)}"
        )


def check_numbers(part: Tensor, what: str, start: int, mask: Tensor | None = None) -> None:
    """float32 and finite; with a ``mask`` [B, T] only where it is true."""
    if part.dtype != torch.float32:
        raise DataError(f"{what} are {part.dtype}; a model takes torch.float32, which .float() makes")
    finite = part.isfinite()
    if mask is not None and mask.dtype == torch.bool and mask.shape == part.shape[: mask.dim()]:
        finite = finite | ~mask.reshape(*mask.shape, *[1] * (part.dim() - mask.dim()))
    finite = finite.flatten(1).all(1) if part.dim() > 1 else finite
    if not finite.all():
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
        raise DataError(
            f"{what} are 0 to {classes - 1} by {Classes(classes)}, but example {start + worst} has {number}"
        )


def said(error: Exception) -> str:
    """An exception of a user's code as the end of a sentence."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}".rstrip(": ")
