"""Tables of numbers in files: CSV with or without names of columns, NPY, NPZ, and text in columns."""

from __future__ import annotations

import gzip
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noderun.config.validation import nearest
from noderun.data.columns import Array
from noderun.data.files import DataError, DataMissing, check_unpacked

Named = tuple[str, Any, list[str]]  # of an array: its name, its values, the names of its columns if it has any


@dataclass(frozen=True, eq=False)
class Table:
    """Finite float64 values [rows, columns] with the columns' names."""

    values: Array
    columns: tuple[str, ...]

    def chosen(self, wanted: Sequence[str], path: Path) -> Table:
        """These columns alone; all if none is named."""
        for name in wanted:
            if name not in self.columns:
                raise DataError(f"{path}: no column '{name}'{nearest(name, self.columns)}")
        kept = [self.columns.index(name) for name in wanted or self.columns]
        return Table(self.values[:, kept], tuple(self.columns[j] for j in kept))


def read_tables(path: Path) -> dict[str, Table]:
    """The tables in a file by name: those of an .npz have their own, that of another file is "all".

    Raises DataMissing if there is no file, and DataError if it cannot be read or does not hold finite numbers.
    """
    if not path.is_file():
        raise DataMissing(f"no file {path.name} in {path.parent.absolute()}")
    try:
        check_unpacked(path)
        content = reader(path)(path)
    except DataError:
        raise
    except Exception as error:  # whatever the damage makes the readers stumble over
        raise DataError(f"{path} cannot be read as a table ({str(error).strip().partition(chr(10))[0]})") from error
    if not content:
        raise DataError(f"{path} holds no table")
    return {name: numeric(values, names, path) for name, values, names in content}


def reader(path: Path) -> Callable[[Path], list[Named]]:
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in READERS:
        raise DataError(f"{path}: tables are read from {', '.join(READERS)} files")
    return READERS[kind]


def numeric(values: Any, columns: Sequence[str], path: Path) -> Table:
    """DataError, by row and column, unless all is finite numbers; rows count from 1, without the line of names."""
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"{path} has shape {values.shape}; a table is [rows, columns], each at least 1")
    names = tuple(columns or (f"column {j + 1}" for j in range(values.shape[1])))
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        row, column = next((i, j) for i, j in np.ndindex(*values.shape) if not is_number(values[i, j]))
        where = f"{path}: row {row + 1} of {names[column]}"
        raise DataError(f"{where} holds {values[row, column]!r}, not a number") from None
    if not np.isfinite(numbers).all():
        row, column = np.argwhere(~np.isfinite(numbers))[0]
        found = "infinity" if np.isinf(numbers[row, column]) else "NaN, or nothing"
        raise DataError(f"{path}: row {row + 1} of {names[column]} holds {found}; a density needs finite numbers")
    return Table(numbers, names)


def is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def read_csv(path: Path, separator: str = ",") -> list[Named]:
    """The first line holds the columns' names unless all of it is numbers."""
    import pandas

    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        words = re.split(separator, file.readline().strip())
    named = not all(is_number(word) for word in words)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)  # of rows that it would cut to the names' number
        try:
            frame = pandas.read_csv(
                path, sep=separator, header=0 if named else None, skipinitialspace=True, index_col=False
            )
        except pandas.errors.ParserWarning as warning:
            raise ValueError(str(warning)) from None
    return [("all", frame.to_numpy(), [str(name).strip() for name in frame.columns] if named else [])]


def read_text(path: Path) -> list[Named]:
    return read_csv(path, r"\s+")


def read_npy(path: Path) -> list[Named]:
    return [("all", np.load(path, allow_pickle=False), [])]


def read_npz(path: Path) -> list[Named]:
    with np.load(path, allow_pickle=False) as arrays:
        return [(name, arrays[name], []) for name in arrays.files]


READERS = {".csv": read_csv, ".txt": read_text, ".npy": read_npy, ".npz": read_npz}


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
