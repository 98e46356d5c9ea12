"""Loss, error and NFE by epoch, of one run or of several."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noderun.report.folders import Run, labels
from noderun.report.style import LINES, figure, line_style, outside_legend, save, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAGS = ("loss/train", "loss/test", "error/train", "error/test", "nfe/forward", "nfe/backward")
SPLITS = {"train": LINES[1], "test": LINES[0]}


def epochs(found: Sequence[Run]) -> list[dict[str, Any]]:
    """One row for each run and epoch: means over the rows of metrics.jsonl that the epoch has."""
    rows = []
    for label, run in zip(labels(found), found, strict=True):
        by_epoch: dict[int, list[dict[str, Any]]] = {}
        for row in run.metrics:
            by_epoch.setdefault(row["epoch"], []).append(row)
        for epoch, inside in by_epoch.items():
            start = {"run": run.folder.name, "label": label, "seed": run.identity.get("seed"), "epoch": epoch}
            rows.append(start | {tag: mean([row[tag] for row in inside if row.get(tag) is not None]) for tag in TAGS})
    return rows


def mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def learning_rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    return [row for row in epochs(found) if row["loss/train"] is not None]


def draw_learning(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and, of classifiers, error: training dashed, test solid; a band spans the seeds."""
    has_error = any(row["error/test"] is not None for row in rows)
    with figure(1, 1 + has_error) as (drawn, axes):
        for panel, quantity in zip(axes[0], ("loss", "error"), strict=False):
            for i, label in enumerate(dict.fromkeys(row["label"] for row in rows)):
                own = [row for row in rows if row["label"] == label]
                for split, dashes in SPLITS.items():
                    style = line_style(i) | {"linestyle": dashes}
                    draw_band(panel, own, f"{quantity}/{split}", label if split == "test" else None, style)
            panel.set(xlabel="epoch", ylabel={"loss": "loss", "error": "error (%)"}[quantity])
            whole_numbers(panel, "x")
        name_dashes(axes[0, -1], SPLITS)
        outside_legend(axes[0, -1])
        save(drawn, path, rows)


def name_dashes(axes: Axes, names: Mapping[str, str]) -> None:
    """Legend entries that say what the dashes mean, after those that say what the colors mean."""
    for name, dashes in names.items():
        axes.plot([], [], color="grey", linestyle=dashes, label=name)


def nfe_rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    return [row for row in epochs(found) if row["nfe/forward"] is not None]


def draw_nfe(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with figure() as (drawn, axes):
        draw_nfe_panel(axes[0, 0], rows)
        outside_legend(axes[0, 0])
        save(drawn, path, rows)


def draw_nfe_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], backward: bool = True) -> None:
    """NFE by epoch (Chen et al. 2018, figure 3d), that of the backward pass dashed."""
    for i, label in enumerate(dict.fromkeys(row["label"] for row in rows)):
        own = [row for row in rows if row["label"] == label]
        draw_band(axes, own, "nfe/forward", label, line_style(i))
        if backward:
            draw_band(axes, own, "nfe/backward", None, line_style(i) | {"linestyle": LINES[1]})
    if backward and any(row["nfe/backward"] is not None for row in rows):
        name_dashes(axes, {"forward": LINES[0], "backward": LINES[1]})
    axes.set(xlabel="epoch", ylabel="NFE per batch (evaluations of f)")
    whole_numbers(axes, "xy")


def draw_band(
    axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, label: str | None, style: Mapping[str, Any]
) -> None:
    """The mean over seeds at each epoch, and the span from the least to the greatest."""
    scale = 100 if key.startswith("error") else 1
    kept = [row for row in rows if row[key] is not None]
    x = sorted({row["epoch"] for row in kept})
    found = [[scale * row[key] for row in kept if row["epoch"] == epoch] for epoch in x]
    if not found:
        return
    axes.plot(x, [statistics.fmean(values) for values in found], label=label, **style)
    if max(map(len, found)) > 1:
        axes.fill_between(x, [*map(min, found)], [*map(max, found)], color=style["color"], alpha=0.15, linewidth=0)
