"""A user's own series: a CSV in long form, one value per line, with the record, the time and the channel it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from noderun.config.validation import nearest, warn_user
from noderun.data.dataset import Dataset
from noderun.data.files import DataError
from noderun.data.points import require_none
from noderun.data.series import Records, packed_rows, series_dataset

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MIXED = 1e4  # times the median gap: more looks like times in several units


def long_csv(
    root: Path,
    augment: bool = False,
    *,
    path: str | None = None,
    id: str = "id",
    time: str = "time",
    channel: str = "channel",
    value: str = "value",
    label: str | None = None,
    covariates: Sequence[str] = (),
    test: float = 0.2,
    split_seed: int = 0,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """The series of a file; a random share ``test`` of the records, drawn by ``split_seed``, tests.

    The time of a record counts from its first value, in units of the longest record's span. A covariate is one more
    channel, known at a record's first time. DataError names the record and the line of what cannot be right.
    """
    require_none("long_csv", augment)
    if path is None:
        raise DataError("data=long_csv reads a file of yours: give data.path=FILE.csv")
    table = Table(path, read(path, [id, time, channel, value, *covariates, *([label] if label else [])]))
    table.check(id, time, channel, value)
    records = table.records(id, time, channel, value, covariates)
    classes = None
    task = task or ("interpolate" if label is None else "classify")
    if task in ("classify", "regress"):
        if label is None:
            raise DataError(f"task={task} needs a label: name its column by data.label")
        records, classes = table.labeled(records, id, label, task)
    train, held = divided(records, test, split_seed, path)
    silent = ~train.mask.flatten(0, 1).any(0)
    if silent.any():
        name = table.channels[int(silent.int().argmax())]
        raise DataError(f"{path}: channel '{name}' has no value in any record of training")
    return series_dataset("long_csv", train, held, task, classes=classes, **asked)


def divided(records: Records, test: float, seed: int, path: str) -> tuple[Records, Records]:
    """The records of training and a random share ``test`` of all, at least one; DataError if none are left to train
    on."""
    order = torch.randperm(len(records), generator=torch.Generator().manual_seed(seed))
    tests = max(1, round(test * len(records)))
    if tests >= len(records):
        raise DataError(
            f"{path}: {len(records)} record(s) leave none to train on beside the test; give more, or a test"
        )
    return records.rows(order[tests:]), records.rows(order[:tests])


def read(path: str, columns: Sequence[str]) -> DataFrame:
    import pandas

    try:
        table = pandas.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"no file {Path(path).absolute()}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV ({str(error).splitlines()[0]})") from None
    for column in columns:
        if column not in table.columns:
            raise DataError(f"{path} has no column '{column}'{nearest(column, map(str, table.columns))}")
    if table.empty:
        raise DataError(f"{path} has a heading and no lines")
    return table


class Table:
    """The lines of a file, and what is wrong with them in one sentence."""

    def __init__(self, path: str, lines: DataFrame) -> None:
        self.path, self.lines = path, lines
        self.ids: list[Any] = []
        self.channels: list[str] = []

    def check(self, id: str, time: str, channel: str, value: str) -> None:
        """DataError for the first line that is wrong; a warning for gaps that look like several units of time."""
        lines = self.lines
        self.refuse(lines[id].isna() | lines[channel].isna(), id, f"has no {id} or no {channel}")
        self.number(time, id)
        self.number(value, id, "; leave out the line of a value that was not observed")
        of_channel = lines.groupby([id, channel], sort=False)[time]
        self.refuse(of_channel.diff() == 0, id, "repeats a time of its channel")
        self.refuse(of_channel.diff() < 0, id, "goes back in time within its channel: sort the file by time")
        moments = lines.groupby(id)[time].nunique()
        if (moments < 2).any():
            raise DataError(f"{self.path}: record '{moments.index[moments < 2][0]}' has one observation only")
        for name, when in lines.groupby(id)[time]:
            gaps = when.drop_duplicates().sort_values().diff().dropna()
            if gaps.max() > MIXED * gaps.median():
                warn_user(
                    f"{self.path}: record '{name}' has a gap of {gaps.max():g}, over {MIXED:g} times the median gap of "
                    f"{gaps.median():g}: are all its times in one unit? A solver spends its NFE on that gap"
                )

    def number(self, column: str, id: str, advice: str = "") -> None:
        """Make a column float64; DataError for what is not a finite number."""
        import numpy
        import pandas

        numbers = pandas.to_numeric(self.lines[column], errors="coerce")
        self.refuse(~numpy.isfinite(numbers), id, f"has no finite number as its {column}{advice}")
        self.lines[column] = numbers.astype("float64")

    def refuse(self, wrong: Series, id: str, reason: str) -> None:
        if wrong.any():
            number = int(wrong.to_numpy().argmax())
            record = self.lines[id].iloc[number]
            raise DataError(f"{self.path}, line {number + 2}, record '{record}': it {reason}")

    def records(self, id: str, time: str, channel: str, value: str, covariates: Sequence[str]) -> Records:
        import pandas

        parts = [self.lines[[id, time, channel, value]].set_axis(["id", "time", "channel", "value"], axis=1)]
        start = self.lines.groupby(id)[time].transform("min")
        first = self.lines[self.lines[time] == start].drop_duplicates(id)
        for name in covariates:
            self.number(name, id)
            first = first.assign(**{name: self.lines.loc[first.index, name]})
            column = first[[id, time, name]].set_axis(["id", "time", "value"], axis=1)
            parts.append(column.assign(channel=name))
        lines = pandas.concat(parts)
        lines["time"] -= lines.groupby("id")["time"].transform("min")
        span = float(lines["time"].max())
        row, ids = pandas.factorize(lines["id"], sort=True)
        place, channels = pandas.factorize(lines["channel"].astype(str), sort=True)
        self.ids, self.channels = list(ids), list(channels)
        lines = lines.assign(row=row, place=place).sort_values(["row", "time"], kind="stable")
        rows, times, places, values = (torch.tensor(lines[key].to_numpy()) for key in ("row", "time", "place", "value"))
        return Records(*packed_rows(rows, times / span, places, values, (len(ids), len(channels))))

    def labeled(self, records: Records, id: str, label: str, task: str) -> tuple[Records, int | None]:
        """The records with their labels, and how many classes there are."""
        self.refuse(self.lines[label].isna(), id, f"has no {label}")
        several = self.lines.groupby(id)[label].nunique()
        if (several > 1).any():
            raise DataError(f"{self.path}: record '{several.index[several > 1][0]}' has more than one {label}")
        if task == "regress":
            self.number(label, id)
        per_record = self.lines.groupby(id)[label].first()
        if task == "regress":
            return replace(records, numbers=torch.tensor(per_record.to_numpy()).float().unsqueeze(1)), None
        names = sorted(per_record.unique())
        if len(names) < 2:
            raise DataError(f"{self.path}: every {label} is {names[0]!r}: there is nothing to tell apart")
        return replace(records, labels=torch.tensor([names.index(name) for name in per_record])), len(names)
