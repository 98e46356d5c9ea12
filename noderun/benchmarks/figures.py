"""The figures of the benchmark; each is written beside the CSV of its rows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from noderun.benchmarks.case import Row
from noderun.benchmarks.memory import MemoryRow
from noderun.report.style import PAGE, draw_lines, figure, line_style, log_scale, outside_legend, save

LEAST = 1 / 1024  # MiB: a few scalars, below any state's size


def draw_times(rows: Sequence[Row], path: Path) -> None:
    """One suite: each case's contenders from their fastest round to their slowest, over the case's first contender."""
    cases = list(dict.fromkeys(row.case for row in rows))
    names = list(dict.fromkeys(row.contender for row in rows))
    with figure(width=PAGE, height=1.5 + 0.35 * max(len(cases), len(names) / 2)) as (drawn, panels):
        axes = panels[0, 0]
        for i, name in enumerate(names):
            mine = [row for row in rows if row.contender == name]
            places = [len(cases) - cases.index(row.case) for row in mine]
            middle = [row.times_first for row in mine]
            spread = [[m * (1 - row.low / row.milliseconds) for m, row in zip(middle, mine, strict=True)]]
            spread += [[m * (row.high / row.milliseconds - 1) for m, row in zip(middle, mine, strict=True)]]
            axes.errorbar(middle, places, xerr=spread, label=name, **line_style(i) | {"linestyle": "none"})
        axes.axvline(1.0, color="black", linewidth=1)
        axes.set_yticks(range(1, len(cases) + 1), labels=list(reversed(cases)), fontsize=7)
        axes.set_xlabel(f"time over {' or '.join(dict.fromkeys(row.contender for row in firsts(rows)))}")
        log_scale(axes, "x")
        outside_legend(axes)
        save(drawn, path, [asdict(row) for row in rows])


def firsts(rows: Sequence[Row]) -> list[Row]:
    """Each case's first contender, over which the other times are given."""
    return list({row.case: row for row in reversed(rows)}.values())


def draw_memory(rows: Sequence[MemoryRow], path: Path) -> None:
    """Bytes held between the passes, and the peak of both, over NFE."""
    records = [asdict(row) for row in rows]
    empty = [name for name in dict.fromkeys(row.contender for row in rows) if most_held(rows, name) < LEAST]
    with figure(columns=2) as (drawn, panels):
        for axes, key in zip(panels[0], ("held_mib", "peak_mib"), strict=True):
            draw_lines(axes, records, "nfe", key, by="contender", keep=lambda x: x >= LEAST)
            for line in axes.lines:
                if not str(line.get_label()).startswith("noderun"):  # rings, for what lies below them is to be seen
                    line.set(linestyle="none", markerfacecolor="none", marker="o", markersize=9)
            axes.set(xlabel="NFE forward", ylabel="MiB")
            log_scale(axes, "xy")
        less = textwrap.fill(f"below 1 KiB: {', '.join(empty)}", 56)
        panels[0, 0].set_title("held for the backward pass" + (f"\n{less}" if empty else ""))
        panels[0, 1].set_title("peak of both passes")
        outside_legend(panels[0, 1])
        save(drawn, path, records)


def most_held(rows: Sequence[MemoryRow], contender: str) -> float:
    return max(row.held_mib for row in rows if row.contender == contender)
