"""The same picture of a model at several epochs, side by side, drawn from rows that training left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.record import files
from noderun.report.depth import PROBABILITY
from noderun.report.folders import Run, checked, read_csv
from noderun.report.style import figure, save

Row = Mapping[str, Any]
# (axes, rows of one epoch, title) -> what a color bar describes, or None
Panel = Callable[[Any, Sequence[Row], str], Any]
PANELS, COLUMNS = 8, 4


def rows_by_epoch(name: str, found: Sequence[Run]) -> list[dict[str, Any]]:
    """The rows that one run has left under this name; none of several runs, which would be as many figures."""
    return checked(found[0].folder / files.FIGURES / f"{name}.csv", read_csv) if len(found) == 1 else []


def shown_epochs(rows: Sequence[Row]) -> list[int]:
    """The first epoch, the last, and as many between them as there are panels."""
    epochs = sorted({row["epoch"] for row in rows})
    last, count = len(epochs) - 1, min(len(epochs), PANELS)
    return [epochs[round(i * last / max(count - 1, 1))] for i in range(count)]


def draw_epochs(rows: Sequence[Row], path: Path, panel: Panel, legend: str) -> None:
    """One panel per epoch; a color bar if ``panel`` returns what it describes."""
    chosen = shown_epochs(rows)
    columns = min(len(chosen), COLUMNS)
    with figure(-(-len(chosen) // columns), columns, height=2.8) as (drawn, axes):
        for axis, epoch in zip(axes.flat, chosen, strict=False):
            shown = panel(axis, [row for row in rows if row["epoch"] == epoch], f"epoch {epoch}")
            outer = axis.get_subplotspec()
            axis.set(
                **({} if outer.is_first_col() else {"ylabel": ""}), **({} if outer.is_last_row() else {"xlabel": ""})
            )
        for axis in axes.flat[len(chosen) :]:
            axis.set_axis_off()
        drawn.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside right upper", title=legend)
        if shown is not None:
            drawn.colorbar(shown, ax=axes, label=PROBABILITY, aspect=40)
        save(drawn, path, rows)
