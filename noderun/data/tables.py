"""Tables as densities: split, checked for columns on which a density has no bound, standardized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.columns import Array, check_columns
from noderun.data.dataset import Dataset, Prepare, rows_as_they_are
from noderun.data.files import DataError
from noderun.data.images import uniform
from noderun.data.table_files import Table, listed, read_tables
from noderun.data.targets import Density
from noderun.data.transforms import Standardize


def table(
    root: Path,
    augment: bool = False,
    *,
    path: str | None = None,
    validation_path: str | None = None,
    test_path: str | None = None,
    columns: Sequence[str] = (),
    test: float = 0.1,
    split_seed: int = 0,
    dequantize: bool = False,
) -> Dataset:
    """A user's table, its rows split here, or the splits from an .npz of that name or from files of their own."""
    if path is None:
        raise DataError("data=table needs data.path=FILE, a .csv, .npy or .npz with a row per example")
    given = splits_of(Path(path), "train")
    for split, file in (("validation", validation_path), ("test", test_path)):
        given |= {} if file is None else splits_of(Path(file), split)
    splits = {split: each.chosen(columns, Path(path)) for split, each in given.items()}
    return density("table", split_rows(splits, test, split_seed), dequantize)


def splits_of(path: Path, split: str) -> dict[str, Table]:
    """The file's one table as ``split``, or those that it calls train, validation and test."""
    tables = read_tables(path)
    if len(tables) == 1:
        return {split: next(iter(tables.values()))}
    if not {"train", "test"} <= tables.keys() <= {"train", "validation", "test"}:
        raise DataError(f"{path} holds {listed(list(tables))}; several arrays are train, test and perhaps validation")
    return tables


def split_rows(splits: dict[str, Table], test: float, seed: int) -> dict[str, Table]:
    """If there is no test, its share is taken from train, in one shuffled order."""
    if "test" in splits or test == 0:
        return splits
    rows = splits["train"]
    order = torch.randperm(len(rows.values), generator=torch.Generator().manual_seed(seed)).numpy()
    tested, kept = np.split(order, [round(test * len(order))])
    return splits | {
        split: Table(rows.values[share], rows.columns) for split, share in (("test", tested), ("train", kept))
    }


def density(name: str, splits: dict[str, Table], dequantize: bool) -> Dataset:
    """The Dataset of a density in the units of the table, standardized for the flow by the training rows."""
    train = splits["train"]
    for split, rows in splits.items():
        if len(rows.values) < 2:
            raise DataError(f"{name}: {len(rows.values)} rows for {split} are too few")
        if len(rows.columns) != len(train.columns):
            raise DataError(f"{name}: {split} has {len(rows.columns)} columns and train {len(train.columns)}")
    if "test" not in splits:
        raise DataError(f"{name}: no rows for the test; give data.test a fraction of them, for instance 0.1")
    quanta = check_columns(name, train.values, train.columns, dequantize)
    batches = {split: Batch(float32(rows.values)) for split, rows in splits.items()}
    to_normal = Standardize(float32(train.values.mean(0)), float32(train.values.std(0)))
    dim = len(train.columns)
    prepare = dequantized(float32(quanta)) if quanta.any() else rows_as_they_are
    return Dataset(
        name, (dim,), Density(dim, to_normal), batches["train"], batches["test"], prepare, batches.get("validation")
    )


def dequantized(quanta: Tensor) -> Prepare:
    """Adds uniform noise of the width of a quantum around each value; ``quanta`` is [D], 0 of a continuous column."""

    def prepare(batch: Batch, generator: torch.Generator | None) -> Batch:
        noise = uniform(batch, generator) - 0.5
        return replace(batch, inputs=batch.inputs + quanta.to(noise.device) * noise)

    return prepare


def float32(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
