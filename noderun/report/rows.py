"""Rows of any keys, as results.csv holds them, as a table for reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from noderun.report.cells import Cell

Row = Mapping[str, str]


def headings_and_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[Cell]]]:
    """One line a row; columns that are empty throughout stay out."""
    keys = [key for key in rows[0] if any(row[key] for row in rows)] if rows else []
    return keys, [[(cell(row[key]), False) for key in keys] for row in rows]


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
