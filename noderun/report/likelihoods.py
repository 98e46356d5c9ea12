"""Figures of likelihoods: NLL against the seconds of training, and against the tolerance of the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.report.costs import finite, scatter, vary
from noderun.report.folders import Run, labels
from noderun.report.precision import finished
from noderun.report.style import figure, line_style, log_scale, outside_legend, save

Row = Mapping[str, Any]
NLL = "test NLL (nats)"
BEGINNING = 0.1  # of a run, whose NLL is not shown: it dwarfs all that follows


def seconds_rows(found: Sequence[Run]) -> list[dict[str, Any]]:
    """The tests of each run by the seconds of training before them, as the rows of metrics.jsonl add up to them."""
    rows: list[dict[str, Any]] = []
    for label, run in zip(labels(found), found, strict=True):
        seconds, step = 0.0, 0
        for row in run.metrics:
            seconds += (row["step"] - step) * (row.get("time/step_ms") or 0.0) / 1000
            step = row["step"]
            if finite(row.get("nll/test")):
                start = {"run": run.folder.name, "label": label, "seed": run.identity.get("seed")}
                rows.append(start | {"seconds": seconds, "step": step, "nll/test": row["nll/test"]})
    return rows


def draw_seconds(rows: Sequence[Row], path: Path) -> None:
    """One line per run, of one color and dash per label; seeds share them."""
    names = list(dict.fromkeys(row["label"] for row in rows))
    with figure() as (drawn, axes):
        panel, shown = axes[0, 0], []
        for run in dict.fromkeys(row["run"] for row in rows):
            own = [row for row in rows if row["run"] == run]
            style = line_style(names.index(own[0]["label"]))
            first = own[0]["label"] not in [line.get_label() for line in panel.lines]
            label = own[0]["label"] if first else None
            panel.plot([r["seconds"] for r in own], [r["nll/test"] for r in own], label=label, **style)
            shown += [r["nll/test"] for r in own if r["seconds"] >= BEGINNING * own[-1]["seconds"]]
        low, high = min(shown), max(shown)
        panel.set(xlabel="seconds of training", ylabel=NLL, ylim=(low - 0.05 * (high - low) - 0.01, high + 0.01))
        outside_legend(panel)
        save(drawn, path, rows)


def tolerance_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Measurements of several NFE; a divergence that was asked for is a line of its own."""
    done = [row for row in finished(rows) if finite(row.get("nll"))]
    named = [
        row | {"line": ", ".join(str(row[key]) for key in ("solver", "divergence") if row.get(key) is not None)}
        for row in done
    ]
    return named if vary(named, "nfe_test") else []


def draw_tolerance(rows: Sequence[Row], path: Path) -> None:
    """NLL against the tolerance and against NFE; the less accurate the solve, the less it is a likelihood."""
    adaptive = [row for row in rows if finite(row.get("rtol"))]
    with figure(1, 2) as (drawn, axes):
        scatter(axes[0, 0], adaptive, "rtol", "nll", "line", along=("tested with",))
        scatter(axes[0, 1], rows, "nfe_test", "nll", "line", along=("tested with",))
        axes[0, 0].set(xlabel="tolerance of the test", ylabel=NLL)
        axes[0, 1].set(xlabel="NFE per batch", ylabel=NLL)
        if adaptive:
            log_scale(axes[0, 0], "x")
        outside_legend(axes[0, 1])
        save(drawn, path, rows)
