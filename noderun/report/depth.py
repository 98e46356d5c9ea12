"""Figures of a trained model along its depth, drawn from rows without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noderun.report.style import COLORS, MARKERS, figure, log_scale, outside_legend, save, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
SHADES = "cividis"  # distinct for color-blind readers and in gray
PROBABILITY = "probability of class 1"


def draw_lesions(rows: Sequence[Row], path: Path) -> None:
    """Test error with one block removed at a time, beside the whole net's (Veit et al. 2016)."""
    key = "test_error" if rows[0]["test_error"] is not None else "test_loss"
    scale = 100 if key == "test_error" else 1
    with figure() as (drawn, axes):
        panel = axes[0, 0]
        removed = [row for row in rows if row["block"] != "none"]
        places = range(len(removed))
        panel.bar(
            places, [scale * row[key] for row in removed], color=COLORS[0], tick_label=[r["block"] for r in removed]
        )
        panel.axhline(scale * rows[0][key], color=COLORS[1], linestyle="--", label="no block removed")
        panel.set(xlabel="removed block", ylabel="test error (%)" if scale == 100 else "test loss")
        outside_legend(panel)
        save(drawn, path, rows)


def class_style(row: Row) -> dict[str, Any]:
    """Color and marker together tell ten classes and more apart."""
    i = int(row["class"] or 0)
    return {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}


def paths(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each example, in their order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row["example"], []).append(row)
    return list(found.values())


def draw_paths(axes: Axes, rows: Sequence[Row], x: str, y: str, **style: Any) -> None:
    """One line per example with a mark at its end; one legend entry per class."""
    named = set()
    for path in sorted(paths(rows), key=lambda path: path[0]["class"] or 0):
        chosen = class_style(path[0])
        label = None if path[0]["class"] in named else str(path[0]["class"])
        named.add(path[0]["class"])
        line = {"color": chosen["color"], "linewidth": 0.9, "alpha": 0.7} | style
        axes.plot([row[x] for row in path], [row[y] for row in path], **line)
        axes.plot(path[0][x], path[0][y], ".", color=chosen["color"], markersize=2.5)
        axes.plot(path[-1][x], path[-1][y], linestyle="", **chosen, label=label if label != "None" else None)


def draw_trajectories(rows: Sequence[Row], path: Path) -> None:
    with figure(height=4.6) as (drawn, axes):
        trajectory_panel(axes[0, 0], rows, "hidden state over depth, from the dot to the mark")
        outside_legend(axes[0, 0], title="class")
        save(drawn, path, rows)


def trajectory_panel(axes: Axes, rows: Sequence[Row], title: str) -> None:
    draw_paths(axes, rows, "x", "y")
    share = rows[0]["variance share"]
    names = components(rows) if share is None else ("principal component 1", "principal component 2")
    shown = "" if share is None else f", {share:.0%} of variance"
    axes.set(title=title + shown, xlabel=names[0], ylabel=names[1])


def components(rows: Sequence[Row]) -> tuple[str, str]:
    """The names of the two components of the state that are shown."""
    x, y = (rows[0].get(f"{axis} component") or i for i, axis in enumerate("xy", start=1))
    return f"$y_{{{x}}}$", f"$y_{{{y}}}$"


def draw_steps(rows: Sequence[Row], path: Path) -> None:
    with figure() as (drawn, axes):
        panel = axes[0, 0]
        edges = [*(row["t"] for row in rows), rows[-1]["t"] + rows[-1]["step"]]
        panel.stairs([row["step"] for row in rows], edges, color=COLORS[0], linewidth=1.5, baseline=None)
        panel.plot([row["t"] for row in rows], [row["step"] for row in rows], "o", color=COLORS[0], label="step begins")
        panel.set(xlabel="t", ylabel="accepted step size", title=f"{len(rows)} accepted steps")
        outside_legend(panel)
        log_scale(panel, "y")
        save(drawn, path, rows)


def draw_nfe_per_input(rows: Sequence[Row], path: Path) -> None:
    """Each test example by its class; the bar is the class's mean. Which inputs are hard?"""
    with figure() as (drawn, axes):
        panel = axes[0, 0]
        if all(row["class"] is None for row in rows):
            draw_counts(panel, [row["nfe"] for row in rows])
            save(drawn, path, rows)
            return
        classes = sorted({row["class"] or 0 for row in rows})
        for right, label, color, mark in ((True, "right", COLORS[0], "o"), (False, "wrong", COLORS[1], "X")):
            own = [row for row in rows if row["right"] in ((right, None) if right else (right,))]
            spread = [(row["class"] or 0) + (row["example"] * 0.618 % 1 - 0.5) * 0.6 for row in own]
            panel.plot(
                spread, [row["nfe"] for row in own], linestyle="", marker=mark, color=color, alpha=0.6, label=label
            )
        for c in classes:
            own_nfe = [row["nfe"] for row in rows if (row["class"] or 0) == c]
            panel.hlines(
                sum(own_nfe) / len(own_nfe), c - 0.4, c + 0.4, color="black", label="mean" if c == classes[0] else None
            )
        panel.set(xlabel="class", ylabel="NFE of the example's own solve", xticks=classes)
        outside_legend(panel)
        save(drawn, path, rows)


def draw_counts(axes: Axes, nfe: Sequence[float]) -> None:
    """How many examples have which NFE, if they have no classes."""
    found = sorted(set(nfe))
    width = 0.8 * min((b - a for a, b in zip(found, found[1:], strict=False)), default=1.0)
    axes.bar(found, [nfe.count(each) for each in found], width=width, color=COLORS[0])
    axes.axvline(sum(nfe) / len(nfe), color="black", label="mean")
    axes.set(xlabel="NFE of the example's own solve", ylabel="test examples")
    whole_numbers(axes, "xy")
    outside_legend(axes)


def draw_flow(rows: Sequence[Row], path: Path) -> None:
    """The ODE's curves beside a residual net's steps, over the vector field (Chen et al. 2018, figure 1)."""
    plane = any(row.get("y") is not None for row in rows)
    x, y = ("x", "y") if plane else ("t", "x")
    titles = {"ode": "ODE", "euler": "residual net: Euler's steps in the same field"}
    field = [row for row in rows if row["kind"] == "field"]
    with figure(1, 2, width=4.6, height=4.0) as (drawn, axes):
        for panel, (kind, title) in zip(axes[0], titles.items(), strict=True):
            columns = [[row[name] for row in field] for name in (x, y, "u", "v")]
            panel.quiver(*columns, color="#aaaaaa", angles="xy", width=0.004)
            marks = {} if kind == "ode" else {"marker": ".", "markersize": 4}
            draw_paths(panel, [row for row in rows if row["kind"] == kind], x, y, **marks)
            names = components(rows) if plane else ("t", "y(t)")
            panel.set(title=title, xlabel=names[0], ylabel=names[1])
        outside_legend(axes[0, 1], title="class")
        save(drawn, path, [{"kind": None, "example": None, "class": None} | dict(row) for row in rows])


def draw_decision(rows: Sequence[Row], path: Path) -> None:
    with figure(width=5.4, height=4.2) as (drawn, axes):
        shown = decision_panel(axes[0, 0], rows)
        axes[0, 0].legend(loc="upper right", frameon=True)
        drawn.colorbar(shown, label=PROBABILITY)
        save(drawn, path, rows)


def decision_panel(axes: Axes, rows: Sequence[Row], title: str = "") -> Any:
    """The map, white where the classes are equal, and test examples; returns what a color bar describes."""
    grid = [row for row in rows if row["kind"] == "map"]
    xs, ys = (sorted({row[name] for row in grid}) for name in ("x", "y"))
    scores = [[row["score"] for row in grid[i :: len(ys)]] for i in range(len(ys))]  # x varies slowest
    shown = axes.pcolormesh(xs, ys, scores, cmap=SHADES, vmin=0, vmax=1, shading="gouraud")
    if min(map(min, scores)) < 0.5 < max(map(max, scores)):
        axes.contour(xs, ys, scores, levels=[0.5], colors="white")
    for label, edge, mark in ((0, "white", "o"), (1, "black", "^")):  # in the color of the region that is right
        own = [row for row in rows if row["kind"] == "test" and row["class"] == label]
        color = shown.cmap(0.15 + 0.8 * label)
        style: Any = {"color": color, "marker": mark, "markeredgecolor": edge, "markeredgewidth": 0.5}
        axes.plot([r["x"] for r in own], [r["y"] for r in own], linestyle="", label=f"class {label}", **style)
    axes.set(xlabel="$x_1$", ylabel="$x_2$", title=title)
    axes.grid(False)
    return shown


def draw_norms(rows: Sequence[Row], path: Path) -> None:
    with figure() as (drawn, axes):
        panel = axes[0, 0]
        depths = [row["depth"] for row in rows]
        by_block = rows[0]["kind"].startswith("residual")
        marks = ("o", "s") if by_block else ("", "")
        panel.plot(depths, [row["state"] for row in rows], color=COLORS[0], marker=marks[0], label="state")
        added = [row for row in rows if row["residual"] is not None]
        style = {"color": COLORS[1], "marker": marks[1], "linestyle": "--"}
        panel.plot([r["depth"] for r in added], [r["residual"] for r in added], label=rows[0]["kind"], **style)
        panel.set(xlabel="block" if by_block else "t", ylabel="norm (mean over examples)")
        if by_block:
            panel.set_xticks(depths)
        outside_legend(panel)
        save(drawn, path, rows)
