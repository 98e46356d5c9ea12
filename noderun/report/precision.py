"""Precision against speed in testing, and training solvers against test solvers."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from noderun.report.cells import Cell
from noderun.report.costs import finite, scatter, vary
from noderun.report.style import figure, log_scale, outside_legend, save

Row = Mapping[str, Any]
FAR = 20  # times the least value: from there on a linear scale of colors shows only the greatest


def precision_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return done if vary(done := finished(rows), "nfe_test") else []


def matrix_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return done if vary(done := finished(rows), "trained with", "tested with") else []


def finished(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Measurements of whole nets that came to an end; a test that was repeated, as for a figure, is there once."""
    done = [row for row in rows if row["status"] == "done" and row.get("removed block") in (None, "none")]
    found = ("run", "tested with", "nfe_test", "numerical_error", "test_loss")
    tests = {tuple(row.get(key) for key in found): row for row in done}
    return [dict(row) | {"net": row.get("run")} for row in tests.values()]


def achieved(rows: Sequence[Row]) -> tuple[str, str]:
    """The key of what a test is about, and its name on an axis."""
    names = {"test_error": "test error (%)", "rmse": "test RMSE", "test_loss": "test loss"}
    return next(
        (key, name) for key, name in names.items() if any(finite(row.get(key)) for row in rows) or key == "test_loss"
    )


def draw_precision(rows: Sequence[Row], path: Path) -> None:
    """Numerical error against NFE, and what it does to the test, against time."""
    key, name = achieved(rows)
    with figure(1, 2) as (drawn, axes):
        scatter(axes[0, 0], rows, "nfe_test", "numerical_error", "solver", along=("tested with",))
        scatter(axes[0, 1], rows, "seconds", key, "solver", along=())
        axes[0, 0].set(xlabel="NFE per batch", ylabel="numerical error (relative)")
        axes[0, 1].set(xlabel="time for the test set (s)", ylabel=name)
        log_scale(axes[0, 0], "y")
        outside_legend(axes[0, 1])
        save(drawn, path, rows)


class Matrix(NamedTuple):
    """A test's outcome by training solver (rows) and test solver (columns); means over seeds."""

    name: str
    trained: Sequence[str]
    tested: Sequence[str]
    values: list[list[float]]
    form: str

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Matrix:
        key, name = achieved(rows)
        percent = key == "test_error"
        trained = in_order([row["trained with"] for row in rows])
        tested = in_order([row["tested with"] for row in rows])
        tested.sort(key=lambda words: words not in trained)  # the others after those of the diagonal
        values = [[mean_of(rows, a, b, key, 100 if percent else 1) for b in tested] for a in trained]
        return cls(name, trained, tested, values, ".1f" if percent else ".3g")

    def text(self, i: int, j: int) -> str:
        return format(self.values[i][j], self.form) if finite(self.values[i][j]) else "-"

    def headings_and_cells(self) -> tuple[list[str], list[list[Cell]]]:
        """As a table of a terminal."""
        lines = [
            [(words, False), *((self.text(i, j), False) for j in range(len(self.tested)))]
            for i, words in enumerate(self.trained)
        ]
        return [f"{self.name}: trained with", *(f"tested with {words}" for words in self.tested)], lines


def draw_matrix(rows: Sequence[Row], path: Path) -> None:
    name, trained, tested, table, _ = matrix = Matrix.of(rows)
    width, height = 2.4 + 0.9 * len(tested), 1.8 + 0.5 * len(trained)
    with figure(width=width, height=height) as (drawn, axes):
        panel = axes[0, 0]
        shown = panel.imshow(table, cmap="cividis", aspect="auto", norm=scale_of(table))
        for i, j in [(i, j) for i in range(len(trained)) for j in range(len(tested)) if finite(table[i][j])]:
            dark = shown.norm(table[i][j]) < 0.5
            panel.text(j, i, matrix.text(i, j), ha="center", va="center", color="white" if dark else "black")
        panel.set_xticks(range(len(tested)), tested, rotation=45, ha="right")
        panel.set_yticks(range(len(trained)), trained)
        panel.set(xlabel="tested with", ylabel="trained with")
        panel.grid(False)
        drawn.colorbar(shown, label=name)
        save(drawn, path, rows)


def in_order(words: Sequence[str]) -> list[str]:
    """Each of the words SOLVER-tolX or SOLVER-dtX once, by solver, then from coarse to fine."""

    def place(word: str) -> tuple[str, float]:
        found = re.fullmatch(r"(.+)-(?:tol|dt)(\S+)", word)
        return (found[1], -float(found[2])) if found else (word, 0.0)

    return sorted(set(words), key=place)


def scale_of(table: Sequence[Sequence[float]]) -> Any:
    """Colors of a table by the logarithm if its values are far apart."""
    from matplotlib.colors import LogNorm, Normalize

    found = [value for row in table for value in row if finite(value)]
    logarithmic = found and min(found) > 0 and max(found) > FAR * min(found)
    return (LogNorm if logarithmic else Normalize)(min(found, default=0.0), max(found, default=1.0))


def mean_of(rows: Sequence[Row], trained: str, tested: str, key: str, scale: float) -> float:
    found = [
        row[key]
        for row in rows
        if (row["trained with"], row["tested with"]) == (trained, tested) and finite(row.get(key))
    ]
    return scale * statistics.fmean(found) if found else float("nan")
