"""Columns of a table on which a density has no bound: a flow's likelihood grows there without limit and means nothing.

A constant column, a copy of another and an exact combination of others lie on a plane, to which a flow can shrink; a
column of few values has atoms. The last can be helped: noise of the width of a quantum makes a density of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noderun.data.files import Unbounded

Array = NDArray[np.float64]
DISTINCT = 0.95  # of a continuous column's values, at least, differ from each other
ROUNDING = 1e-12  # relative: two values that are closer are one, computed in two ways
EXACT = 1e-10  # of a column's variance is left once the columns before it are known


def check_columns(name: str, table: Array, columns: Sequence[str], dequantize: bool) -> Array:
    """The quantum of each column [D], 0 of a continuous one; Unbounded if a density has no bound on the table.

    Discrete columns are let through if they are to be dequantized.
    """
    faults = [*constant(table, columns), *copies(table, columns)]
    faults += [] if faults else combinations(table, columns)
    if faults:
        raise Unbounded(f"{name} has no bounded density: {'; '.join(faults)}; name those to learn in data.columns")
    widths, counts = zip(*(quantum(column) for column in table.T), strict=True)
    found = [f"{column} ({count})" for column, count, width in zip(columns, counts, widths, strict=True) if width]
    if found and not dequantize:
        raise Unbounded(
            f"{name} has no bounded density: discrete columns, with their numbers of values in {len(table)} rows: "
            f"{', '.join(found)}; data.dequantize=true adds noise of one quantum to each"
        )
    return np.array(widths)


def constant(table: Array, columns: Sequence[str]) -> list[str]:
    return [f"{columns[j]} is constant" for j in range(len(columns)) if np.ptp(table[:, j]) == 0]


def copies(table: Array, columns: Sequence[str]) -> list[str]:
    """Columns equal to an earlier one."""
    first: dict[bytes, str] = {}
    names = [first.setdefault(np.ascontiguousarray(values).tobytes(), columns[j]) for j, values in enumerate(table.T)]
    return [f"{column} repeats {name}" for column, name in zip(columns, names, strict=True) if name != column]


def combinations(table: Array, columns: Sequence[str]) -> list[str]:
    """Columns that are exact linear combinations of earlier ones, by Gram-Schmidt on the standardized columns."""
    basis: list[Array] = []
    found = []
    for column, values in zip(columns, ((table - table.mean(0)) / table.std(0)).T, strict=True):
        rest = values
        for _ in range(2):  # once more for what rounding left
            for direction in basis:
                rest = rest - (direction @ rest) * direction
        if rest @ rest < EXACT * (values @ values):
            found.append(f"{column} is a linear combination of those before it")
        else:
            basis.append(rest / np.linalg.norm(rest))
    return found


def quantum(values: Array) -> tuple[float, int]:
    """The least distance of two values if they are discrete, else 0; and how many differ."""
    count = len(np.unique(values.astype(np.float32)))  # as a model will see them
    if count >= DISTINCT * len(values):
        return 0.0, count
    largest, gaps = np.abs(values).max(), np.diff(np.unique(values))
    least = gaps[gaps > ROUNDING * largest].min()
    return float(max(least, np.spacing(np.float32(largest)))), count
