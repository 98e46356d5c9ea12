"""Figures of series, drawn from rows without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.report.depth import draw_paths
from noderun.report.style import COLORS, figure, save

Row = Mapping[str, Any]


def draw_series(rows: Sequence[Row], path: Path) -> None:
    """A panel per test series, a color per channel: values given (filled) and asked (open), the path and its fan."""
    examples = sorted({row["example"] for row in rows})
    with figure(len(examples), width=9.0, height=2.2) as (drawn, axes):
        for panel, example in zip(axes[:, 0], examples, strict=True):
            own = [row for row in rows if row["example"] == example]
            for channel in sorted({row["channel"] for row in own}):
                draw_channel(panel, [row for row in own if row["channel"] == channel], COLORS[channel % len(COLORS)])
            spread = [row["value"] for row in own if row["kind"] != "path"]
            margin = 0.6 * (max(spread) - min(spread)) or 1.0
            panel.set(ylim=(min(spread) - margin, max(spread) + margin), ylabel=f"series {example}")
        axes[-1, 0].set(xlabel="time (filled: given; open: asked; line: the model, with the middle 80 % of its draws)")
        save(drawn, path, rows)


def draw_channel(panel: Any, rows: Sequence[Row], color: str) -> None:
    for kind, face in (("given", color), ("asked", "none")):
        points = [row for row in rows if row["kind"] == kind]
        panel.plot(
            *([row[key] for row in points] for key in ("time", "value")),
            linestyle="",
            marker="o",
            markersize=3,
            color=color,
            markerfacecolor=face,
            markeredgewidth=0.6,
        )
    line = [row for row in rows if row["kind"] == "path"]
    times = [row["time"] for row in line]
    panel.plot(times, [row["value"] for row in line], color=color)
    if line and line[0]["low"] is not None:
        panel.fill_between(
            times, [row["low"] for row in line], [row["high"] for row in line], color=color, alpha=0.2, linewidth=0
        )


def draw_latent(rows: Sequence[Row], path: Path) -> None:
    """The latent paths of test series from time 0 to the mark at their end."""
    with figure() as (drawn, axes):
        draw_paths(axes[0, 0], rows, "x", "y")
        share = rows[0]["variance share"]
        axes[0, 0].set(
            xlabel="first component of z" if share else "z1",
            ylabel="second component of z" if share else "z2",
            title=f"{share:.0%} of the variance" if share else "",
        )
        if any(row["class"] is not None for row in rows):
            axes[0, 0].legend(title="class")
        save(drawn, path, rows)
