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


def draw_hidden(rows: Sequence[Row], path: Path) -> None:
    """A panel per test series: the first units of the hidden state, and marks where the series was observed."""
    examples = sorted({row["example"] for row in rows})
    with figure(len(examples), width=9.0, height=2.2) as (drawn, axes):
        for panel, example in zip(axes[:, 0], examples, strict=True):
            own = [row for row in rows if row["example"] == example]
            for unit in sorted({row["unit"] for row in own if row["unit"] is not None}):
                line = [row for row in own if row["unit"] == unit]
                panel.plot(*([row[key] for row in line] for key in ("time", "value")), color=COLORS[unit % len(COLORS)])
            seen = [row["time"] for row in own if row["unit"] is None]
            panel.plot(seen, [0.02] * len(seen), "|", color="0.3", transform=panel.get_xaxis_transform())
            panel.set(ylabel=f"series {example}")
        axes[-1, 0].set(xlabel="time (line: a unit of the hidden state; mark: an observation)")
        save(drawn, path, rows)


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


def draw_rate(rows: Sequence[Row], path: Path) -> None:
    """Observations per unit of time: learned, true, and counted in the test with the standard error of each count."""
    with figure() as (drawn, axes):
        panel = axes[0, 0]
        for kind, color in (("true", COLORS[0]), ("learned", COLORS[1])):
            own = [row for row in rows if row["kind"] == kind]
            panel.plot(*([row[key] for row in own] for key in ("time", "rate")), color=color, label=kind)
        counted = [
            [row[key] for row in rows if row["kind"] == "observed"] for key in ("time", "rate", "standard error")
        ]
        times, rates, errors = counted
        panel.errorbar(times, rates, yerr=errors, fmt=".", color="0.4", label="counted in the test")
        panel.set(xlabel="time", ylabel="observations per unit of time", ylim=(0, None))
        panel.legend()
        save(drawn, path, rows)


def draw_prior(rows: Sequence[Row], path: Path) -> None:
    """A row of panels per channel: test series on the left, draws from the prior on the right."""
    channels = sorted({row["channel"] for row in rows})
    with figure(len(channels), 2, width=4.6, height=2.2) as (drawn, axes):
        for line, channel in zip(axes, channels, strict=True):
            for panel, kind in zip(line, ("data", "prior"), strict=True):
                own = [row for row in rows if row["channel"] == channel and row["kind"] == kind]
                for example in sorted({row["example"] for row in own}):
                    curve = [row for row in own if row["example"] == example]
                    panel.plot(
                        *([row[key] for row in curve] for key in ("time", "value")),
                        color=COLORS[channel % len(COLORS)],
                        linewidth=0.6,
                        alpha=0.7,
                    )
                data = [row["value"] for row in rows if row["channel"] == channel and row["kind"] == "data"]
                margin = 0.2 * (max(data) - min(data)) or 1.0
                panel.set(ylim=(min(data) - margin, max(data) + margin))
            line[0].set(ylabel=f"channel {channel}")
        axes[0, 0].set(title="test series")
        axes[0, 1].set(title="draws from the prior")
        for panel in axes[-1]:
            panel.set(xlabel="time")
        save(drawn, path, rows)


def draw_diffusion(rows: Sequence[Row], path: Path) -> None:
    """A panel per channel: its diffusion over its value, learned and true, in the units of the data."""
    channels = sorted({row["channel"] for row in rows})
    with figure(1, len(channels), width=3.6, height=3.2) as (drawn, axes):
        for panel, channel in zip(axes[0], channels, strict=True):
            own = sorted((row for row in rows if row["channel"] == channel), key=lambda row: row["value"])
            for kind, color in (("learned", COLORS[1]), ("true", COLORS[0])):
                values = [[row[key] for row in own] for key in ("value", kind)]
                panel.plot(*values, linestyle="", marker=".", markersize=3, color=color, label=kind)
            panel.set(xlabel="value", title=f"channel {channel}", ylim=(0, None))
        axes[0, 0].set(ylabel="diffusion")
        axes[0, 0].legend()
        save(drawn, path, rows)
