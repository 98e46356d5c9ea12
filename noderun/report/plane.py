"""The figure of a map of the plane: a grid before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noderun.report.flows import even
from noderun.report.style import COLORS, figure, outside_legend, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]


def draw_grid(rows: Sequence[Row], path: Path) -> None:
    """The plane with its test points, and where the map takes both; what it turns over (det J <= 0) has a color."""
    grid = [row for row in rows if row["kind"] == "grid"]
    tested = [row for row in rows if row["kind"] == "test"]
    dets = [row["det J"] for row in grid]
    folded = sum(det <= 0 for det in dets) / len(dets)
    with figure(1, 2, width=4.6, height=4.6) as (drawn, axes):
        before, after = axes[0]
        draw_lines_of(before, grid, "x", "y")
        draw_lines_of(after, grid, "u", "v")
        points(before, tested, "x", "y", COLORS[2], "test points")
        points(after, tested, "wanted u", "wanted v", COLORS[5], "wanted")
        points(after, tested, "u", "v", COLORS[2], "reached")
        before.set(title="before", aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        said = f"det J from {min(dets):.2g} to {max(dets):.2g}, folded: {folded:.1%}"
        after.set(
            title=f"after: {said},\n{crossings(grid)} crossings of lines that did not meet",
            aspect="equal",
            xlabel="$y_1$",
            ylabel="$y_2$",
        )
        after.plot([], [], color=COLORS[1], label="det J <= 0")
        outside_legend(after)
        save(drawn, path, even(rows))


def draw_lines_of(axes: Axes, grid: Sequence[Row], x: str, y: str) -> None:
    """Each line of the grid, its folded stretches in another color."""
    for _, line in groupby(grid, key=lambda row: row["line"]):
        for folded, stretch in groupby(line, key=lambda row: row["det J"] <= 0):
            part = list(stretch)
            color = COLORS[1] if folded else "#888888"
            axes.plot([row[x] for row in part], [row[y] for row in part], color=color, linewidth=0.5)
    axes.grid(False)


def crossings(grid: Sequence[Row]) -> int:
    """How often two lines of one family cross; both count it."""
    return sum({row["line"]: row["crossings"] for row in grid}.values()) // 2


def points(axes: Axes, rows: Sequence[Row], x: str, y: str, color: str, label: str) -> None:
    axes.plot([row[x] for row in rows], [row[y] for row in rows], ".", color=color, markersize=3, label=label)
