"""A recorded set of series, and the task that makes questions and answers of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from noderun import noise
from noderun.config.validation import warn_user
from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataError
from noderun.data.targets import Classes, Series, Target, Values

TASKS: Mapping[str, type] = {"interpolate": Series, "forecast": Series, "classify": Classes, "regress": Values}
SEEDS = ("train", "validation", "test")  # the place of a split is added to the seed that drops its points
ROUNDING = 1e-6  # of single precision, relative to the largest value
DROPPED = 1  # the stream of random numbers that decides which points are not observed


@dataclass(frozen=True, eq=False)
class Records:
    """Series as they were recorded: what a channel did not record, and what pads a short series, is not in the mask.

    ``truth`` are the values without noise, where they are known: a test is scored against them.
    """

    values: Tensor  # float32 [N, T, D]
    times: Tensor  # float32 [N, T], not decreasing; padding repeats the last time
    mask: Tensor  # bool [N, T, D]
    labels: Tensor | None = None  # int64 [N], for classify
    numbers: Tensor | None = None  # float32 [N, K], for regress
    truth: Tensor | None = None  # float32 [N, T, D]

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, chosen: Tensor) -> Records:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part[chosen] for name, part in parts.items() if part is not None})

    def standardized(self, mean: Tensor, scale: Tensor) -> Records:
        truth = None if self.truth is None else (self.truth - mean) / scale
        return replace(self, values=(self.values - mean) / scale, truth=truth)


@dataclass(frozen=True)
class Question:
    """What is asked of each series.

    interpolate: the values at all times, of which a share ``observed`` is given; ``score`` says which of them count.
    forecast: the values after the first ``history`` of the time span, of which a share ``observed`` is given.
    classify, regress: the label or the numbers of a series, of whose points a share ``observed`` is given.
    """

    task: str
    observed: float = 1.0
    history: float = 0.5
    score: str = "all"

    def __post_init__(self) -> None:
        if self.score == "held_out" and self.observed == 1:
            raise DataError("data.score=held_out scores what is not observed: give data.observed below 1")

    def of(self, records: Records, seed: int, test: bool) -> Batch:
        """The batch that asks this of the records; a ``test`` is scored against the truth where that is known."""
        given = self.given(records, seed)
        inputs, times, mask = packed(records.values, records.times, given)
        batch = Batch(inputs, times=times, mask=mask)
        if self.task == "classify":
            return replace(batch, targets=records.labels)
        if self.task == "regress":
            return replace(batch, targets=records.numbers)
        answers = records.values if records.truth is None or not test else records.truth
        targets, target_times, target_mask = packed(answers, records.times, self.asked(records, given))
        return replace(batch, targets=targets, target_times=target_times, target_mask=target_mask)

    def given(self, records: Records, seed: int) -> Tensor:
        """bool [N, T, D]: what a model sees. Of the n points of a series, round(observed n) are drawn."""
        there = records.mask
        if self.task == "forecast":
            there = there & self.past(records)
        if self.observed == 1:
            return there
        point = there.any(-1)
        chance = noise.uniform(seed + DROPPED, torch.arange(len(records)), tuple(point.shape[1:]))
        rank = chance.masked_fill(~point, 2.0).argsort(1).argsort(1)
        count = point.sum(1, keepdim=True)
        kept = (self.observed * count).round().clamp(min=1)
        if self.holds_out:
            kept = torch.minimum(kept, count - 1)
        return there & (rank < kept).unsqueeze(-1)

    def unanswerable(self, records: Records) -> Tensor:
        """bool [N]: a series with one point has none to hold out."""
        return (records.mask.any(-1).sum(1) == 1) & self.holds_out

    def asked(self, records: Records, given: Tensor) -> Tensor:
        """bool [N, T, D]: the values that count."""
        if self.task == "forecast":
            return records.mask & ~self.past(records)
        return records.mask & ~given if self.holds_out else records.mask

    @property
    def holds_out(self) -> bool:
        return self.task == "interpolate" and self.score == "held_out"

    def past(self, records: Records) -> Tensor:
        """bool [N, T, 1]: within the first ``history`` of a series' own span of time; at its end is still within."""
        start, end = records.times[:, :1], records.times[:, -1:]
        return (records.times <= start + self.history * (end - start)).unsqueeze(-1)


def packed(values: Tensor, times: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values, times and mask of the points with any value, moved to the front; what is left over pads the end.

    Padding repeats a series' last time; values that are not in the mask are 0.
    """
    point = mask.any(-1)
    counts = point.sum(1)
    order = (~point).int().argsort(dim=1, stable=True)[:, : max(int(counts.max()), 1)]
    place = torch.arange(order.shape[1]).expand_as(order)
    last = order.gather(1, (counts - 1).clamp(min=0).unsqueeze(1))
    order = torch.where(place < counts.unsqueeze(1), order, last)
    rows = torch.arange(len(values)).unsqueeze(1)
    kept = mask[rows, order] & (place < counts.unsqueeze(1)).unsqueeze(-1)
    return torch.where(kept, values[rows, order], 0.0), times[rows, order], kept


def padded(series: Sequence[Tensor], times: Sequence[Tensor], **known: Tensor) -> Records:
    """Records of series [T_i, D] at times [T_i] of unequal lengths; what is NaN was not observed."""
    lengths = torch.tensor([len(each) for each in series])
    values = torch.nn.utils.rnn.pad_sequence(list(series), batch_first=True)
    there = (torch.arange(values.shape[1]) < lengths.unsqueeze(1)).unsqueeze(-1) & values.isfinite()
    when = torch.stack([torch.cat([t, t[-1:].expand(values.shape[1] - len(t))]) for t in times])
    return Records(torch.where(there, values, 0.0), when, there, **known)


def packed_rows(
    row: Tensor, time: Tensor, channel: Tensor, value: Tensor, shape: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, times and mask of ``shape`` (series, channels) from one value per line, sorted by (row, time)."""
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (row[1:] != row[:-1]) | (time[1:] != time[:-1])
    point = new.cumsum(0) - 1  # the number of each line's point in time, over all series
    first = torch.zeros(shape[0], dtype=torch.int64).scatter_reduce(0, row, point, "amin", include_self=False)
    place = point - first[row]
    length = int(place.max()) + 1
    values, mask = torch.zeros(shape[0], length, shape[1]), torch.zeros(shape[0], length, shape[1], dtype=torch.bool)
    values[row, place, channel], mask[row, place, channel] = value.float(), True
    last = torch.zeros(shape[0], dtype=time.dtype).scatter_reduce(0, row, time, "amax", include_self=False)
    times = last.unsqueeze(1).repeat(1, length)
    times[row, place] = time
    return values, times.float(), mask


def series_dataset(
    name: str,
    train: Records,
    test: Records,
    task: str,
    *,
    classes: int | None = None,
    standardize: bool = True,
    seed: int = 0,
    validation: Records | None = None,
    **asked: Any,
) -> Dataset:
    """The Dataset of a task, with each channel standardized by training's mean and standard deviation if wanted.

    ``asked`` are the settings of its Question, of which None means its default.
    """
    mean, scale = (
        unit_of(train) if standardize else (torch.zeros(train.values.shape[2]), torch.ones(train.values.shape[2]))
    )
    question = Question(task, **{key: value for key, value in asked.items() if value is not None})

    def batch(split: str, records: Records) -> Batch:
        kept = answerable(f"{name}, {split}", question, records.standardized(mean, scale))
        found = question.of(kept, seed + SEEDS.index(split), test=split == "test")
        check_observed(f"{name}, {split}", found)
        return found

    learned, tested = batch("train", train), batch("test", test)
    target, shape = target_of(question, train, classes, mean, scale), tuple(learned.inputs.shape[1:])
    validated = None if validation is None else batch("validation", validation)
    return Dataset(name, shape, target, learned, tested, trimmed, validated)


def answerable(name: str, question: Question, records: Records) -> Records:
    """The records that the question can be asked of; a warning says how many are left out."""
    lost = question.unanswerable(records)
    if not lost.any():
        return records
    warn_user(f"{name}: {int(lost.sum())} series with one point are left out, since none of it can be held out")
    return records.rows(~lost)


def trimmed(batch: Batch, generator: torch.Generator | None) -> Batch:
    """The batch without the padding at the end that none of its series needs."""
    given = shortened(batch, ("inputs", "times", "mask"))
    return given if batch.target_mask is None else shortened(given, ("targets", "target_times", "target_mask"))


def shortened(batch: Batch, names: tuple[str, str, str]) -> Batch:
    parts = batch.parts()
    length = longest(parts[names[2]])
    return replace(batch, **{name: parts[name][:, :length] for name in names})


def longest(mask: Tensor) -> int:
    """Points of the longest series of [B, T, D]: points come first, padding at the end."""
    return int(mask.any(-1).sum(1).max())


def unit_of(records: Records) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel [D] over what was recorded; 1 of a channel that is constant, but for
    the rounding of its values."""
    count = records.mask.sum((0, 1)).clamp(min=1)
    mean = torch.where(records.mask, records.values, 0.0).sum((0, 1)) / count
    square = torch.where(records.mask, records.values - mean, 0.0).square().sum((0, 1)) / count
    largest = torch.where(records.mask, records.values, 0.0).abs().amax((0, 1))
    return mean, torch.where(square.sqrt() > ROUNDING * largest, square.sqrt(), 1.0)


def target_of(question: Question, records: Records, classes: int | None, mean: Tensor, scale: Tensor) -> Target:
    if question.task == "classify":
        assert classes is not None
        return Classes(classes)
    if question.task == "regress":
        assert records.numbers is not None
        return Values(tuple(records.numbers.shape[1:]))
    return Series(records.values.shape[-1], tuple(scale.tolist()), tuple(mean.tolist()))


def check_observed(where: str, batch: Batch) -> None:
    """DataError for a series of which nothing is given, or nothing is asked."""
    for words, mask in (("observed", batch.mask), ("to be answered", batch.target_mask)):
        empty = torch.zeros(1, dtype=torch.bool) if mask is None else ~mask.flatten(1).any(1)
        if empty.any():
            raise DataError(f"{where}: nothing of series {int(empty.int().argmax())} is {words}")
