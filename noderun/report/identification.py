"""Figures of an identified system: parameters with intervals, and the phase portrait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noderun.report.style import COLORS, figure, save

Rows = list[dict[str, Any]]


def draw_parameters(rows: Rows, path: Path) -> None:
    """A panel per parameter: each estimate with its interval, and the true or published value beside it."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    most = max(sum(row["name"] == name for row in rows) for name in names)
    with figure(-(-len(names) // 2), min(2, len(names)), width=4.2, height=1.3 + 0.16 * most) as (drawn, axes):
        for name, panel in zip(names, axes.flat, strict=False):
            mine = [row for row in rows if row["name"] == name]
            places = list(range(len(mine)))
            estimates = [row["estimate"] for row in mine]
            spans = [[row["estimate"] - row["low"] for row in mine], [row["high"] - row["estimate"] for row in mine]]
            label = f"estimate, {mine[0]['level']:.0%} interval"
            panel.errorbar(estimates, places, xerr=spans, fmt="o", color=COLORS[0], capsize=3, label=label)
            for key, marker, color in (("true", "x", COLORS[1]), ("published", "D", COLORS[2])):
                known = [(row, place) for row, place in zip(mine, places, strict=True) if row.get(key) is not None]
                for i, (row, place) in enumerate(known):
                    panel.plot(
                        row[key], place + 0.2, marker, color=color, label=None if i else key, linestyle="none", zorder=3
                    )
                    if key == "published":
                        panel.plot([row["published low"], row["published high"]], [place + 0.2] * 2, color=color)
            panel.set(
                title=name, yticks=places, yticklabels=[row["parameter"] for row in mine], ylim=(most - 0.5, -0.5)
            )
        for panel in list(axes.flat)[len(names) :]:
            panel.remove()
        axes[0, 0].legend(loc="best")
        save(drawn, path, rows)


def draw_phase(rows: Rows, path: Path) -> None:
    """The learned field and solutions, beside the true field where it is known; observations in both."""
    names = [f"channel {rows[0].get(f'{axis} component', i)}" for i, axis in enumerate("xy", start=1)]
    kinds = [kind for kind in ("learned field", "true field") if any(row["kind"] == kind for row in rows)]
    with figure(1, len(kinds), height=4.6) as (drawn, axes):
        for kind, panel in zip(kinds, axes[0], strict=True):
            field = [row for row in rows if row["kind"] == kind]
            sizes = [(row["u"] ** 2 + row["v"] ** 2) ** 0.5 or 1.0 for row in field]
            x, y = ([row[key] for row in field] for key in "xy")
            u, v = ([row[key] / size for row, size in zip(field, sizes, strict=True)] for key in "uv")
            panel.quiver(x, y, u, v, color="#999999", angles="xy", width=0.003)
            paths = ("observed", "solved") if kind == "learned field" else ("observed",)
            for which in paths:
                for i in dict.fromkeys(row["series"] for row in rows if row["kind"] == which):
                    points = [(r["x"], r["y"]) for r in rows if r["kind"] == which and r["series"] == i]
                    style: dict[str, Any] = dict(color=COLORS[1], linewidth=1.2)
                    if which == "observed":
                        style = dict(color=COLORS[0], linestyle="none", marker=".", markersize=3)
                    panel.plot(*zip(*points, strict=True), label=None if i else which, **style)
            panel.set(title=f"{kind} (directions)", xlabel=names[0], ylabel=names[1])
            panel.legend(loc="upper right")
        save(drawn, path, rows)
