"""Figures of roll-outs: the error against time, and a field in space and time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.report.folders import Run, labels
from noderun.report.style import figure, line_style, log_scale, outside_legend, save

Row = Mapping[str, Any]
TAG = re.compile(r"nrmse_(persistence_)?at_(\d+)/test")  # of the objective rollout: the error after so many steps


def rollout_rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    """nRMSE after so many steps in the last test of each run, and that of persistence."""
    rows: list[dict[str, Any]] = []
    for label, run in zip(labels(found), found, strict=True):
        tested: dict[str, Any] = next((row for row in reversed(run.metrics) if "nrmse_at_1/test" in row), {})
        for tag, value in tested.items():
            if matched := TAG.fullmatch(tag):
                name = "persistence" if matched[1] else label
                rows.append({"run": run.folder.name, "label": name, "steps": int(matched[2]), "nrmse": value})
    return rows


def draw_rollout(rows: Sequence[Row], path: Path) -> None:
    """A line per run; seeds share color and dashes."""
    names = list(dict.fromkeys(row["label"] for row in rows))
    with figure() as (drawn, axes):
        panel, seen = axes[0, 0], set[str]()
        for label, run in dict.fromkeys((row["label"], row["run"]) for row in rows):
            own = [row for row in rows if (row["label"], row["run"]) == (label, run) and row["nrmse"] is not None]
            line = sorted((row["steps"], row["nrmse"]) for row in own)
            first = label not in seen
            if line and (first or label != "persistence"):  # which the runs of one set share
                panel.plot(*zip(*line, strict=True), label=label if first else None, **line_style(names.index(label)))
            seen.add(label)
        panel.set(xlabel="steps of the roll-out", ylabel="nRMSE of the test")
        log_scale(panel, "xy")
        outside_legend(panel)
        save(drawn, path, rows)


def draw_spacetime(rows: Sequence[Row], path: Path) -> None:
    """Truth, model and their difference as pictures, time to the right and the grid upward."""
    steps, points = (sorted({row[key] for row in rows}) for key in ("step", "point"))
    values = {(row["step"], row["point"]): row for row in rows}
    with figure(3, 1, width=8.0, height=1.9) as (drawn, axes):
        for panel, kind in zip(axes[:, 0], ("truth", "model", "difference"), strict=True):
            picture = [[shown(values[step, point], kind) for step in steps] for point in points]
            largest = max(abs(shown(row, "truth" if kind == "model" else kind)) for row in rows)
            extent = (steps[0], steps[-1], points[0], points[-1])
            image = panel.imshow(
                picture, origin="lower", aspect="auto", extent=extent, cmap="RdBu_r", vmin=-largest, vmax=largest
            )
            panel.set(title=kind, ylabel="point of the grid")
            panel.grid(False)
            drawn.colorbar(image, ax=panel)
        axes[-1, 0].set(xlabel="steps of the roll-out")
        save(drawn, path, rows)


def shown(row: Row, kind: str) -> float:
    return float(row["model"] - row["truth"] if kind == "difference" else row[kind])
