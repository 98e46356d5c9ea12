"""Rows of any keys, as results.csv holds them, as a table for reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.table import Table

Row = Mapping[str, str]


def rows_table(rows: Sequence[Row]) -> Table:
    """One line a row; columns that are empty throughout stay out."""
    keys = [key for key in rows[0] if any(row[key] for row in rows)] if rows else []
    table = Table()
    for key in keys:
        table.add_column(key, justify="right" if all(number(row[key]) for row in rows if row[key]) else "left")
    for row in rows:
        table.add_row(*(cell(row[key]) for key in keys))
    return table


def number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def cell(text: str) -> str:
    """Four digits of a number; `-` where a value does not apply."""
    if not text:
        return "-"
    if not number(text) or text.isdigit():
        return {"True": "yes", "False": "no"}.get(text, text)
    value = float(text)
    return f"{value:.4g}" if math.isfinite(value) else "unbounded" if value > 0 else str(value)
