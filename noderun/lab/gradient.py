"""lab=gradient: the cost of each gradient method, and the distance of its gradient from the true one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import torch

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.gradient_cases import CASES, Case
from noderun.lab.measure import relative_distance
from noderun.ode.gradients import GRADIENTS, refusal
from noderun.ode.gradients.forward import MOST_TANGENTS
from noderun.ode.solvers import SOLVERS, Solution, SolveError
from noderun.report import style
from noderun.report.costs import draw_equal
from noderun.training.isolation import isolated
from noderun.training.memory import MIB, StorageLedger

log = logging.getLogger(__name__)


def run(bench: LabContext) -> LabResult:
    options = bench.settings.lab
    rows: Rows = []
    for name in options.cases:
        with isolated(torch.device("cpu"), bench.settings.seed):
            case = CASES[name]()
        truth = case.truth()
        for label, chosen in contenders(bench, case):
            for tolerance in sorted(options.tolerances, reverse=True):
                row = {"case": case.title, "gradient": label, "solver": chosen["solver"], "tolerance": tolerance}
                rows.append(row | measured(bench, case, truth, chosen, tolerance))
    for name, x, y, words in FIGURES:
        draw(bench, rows, name, x, y, words)
    return LabResult(rows, {"nfe_forward": sum(row["NFE forward"] or 0 for row in rows)})


def contenders(bench: LabContext, case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label and arguments of each contender: every gradient method, and the adjoint with either norm."""
    for gradient, solver in pairs(bench, case):
        label = gradient if solver == bench.settings.solver.name else f"{gradient} ({solver})"
        yield label, {"gradient": gradient, "solver": solver}
        if gradient == "adjoint":
            seminorm = {"gradient_options": {"norm": "seminorm"}}
            yield f"{label}, seminorm", {"gradient": gradient, "solver": solver} | seminorm


def pairs(bench: LabContext, case: Case) -> Iterator[tuple[str, str]]:
    """Each gradient method with the chosen solver, or with the first adaptive one that supports it."""
    chosen = bench.settings.solver.name
    for gradient in bench.settings.lab.gradients or GRADIENTS:
        tangents = sum(p.numel() for p in case.parameters)
        if gradient == "forward" and tangents > MOST_TANGENTS:
            log.warning("%s: forward is left out, it would carry %d tangents", case.title, tangents)
            continue
        able = [name for name in SOLVERS if SOLVERS[name].adaptive and refusal(name, gradient) is None]
        if chosen in able:
            yield gradient, chosen
        elif able:
            yield gradient, able[0]


def measured(
    bench: LabContext, case: Case, truth: torch.Tensor, chosen: dict[str, Any], tolerance: float
) -> dict[str, Any]:
    """Measure one gradient: its error and its costs; of a solve that failed the NFE forward up to there alone."""
    settings = chosen | {"rtol": tolerance, "atol": tolerance, "max_steps": bench.settings.lab.max_steps}
    row: dict[str, Any] = dict.fromkeys(("gradient error", "NFE forward", "NFE backward", "held (MiB)", "milliseconds"))
    try:
        with StorageLedger() as ledger:
            loss, stats = case.forward(**settings)
        held = ledger.held_bytes(case.y0, loss, *case.parameters)
        start = time.perf_counter()
        loss, stats = case.forward(**settings)
        found = case.gradient(loss)
        seconds = time.perf_counter() - start
    except SolveError as failure:
        reached = failure.solution.stats.nfe_forward if isinstance(failure.solution, Solution) else None
        return row | {"NFE forward": reached, "status": failure.status}
    nfe = {"NFE forward": stats.nfe_forward, "NFE backward": stats.nfe_backward}
    costs = nfe | {"held (MiB)": held / MIB, "milliseconds": 1e3 * seconds}
    return {"gradient error": relative_distance(found, truth)} | costs | {"status": "done"}


FIGURES = (
    ("gradient_error", "tolerance", "gradient error", ("tolerance (rtol = atol)", "relative error of dL/dtheta")),
    ("memory", "NFE forward", "held (MiB)", ("NFE forward", "held for the backward pass (MiB)")),
    ("time", "NFE forward", "milliseconds", ("NFE forward", "forward and backward (ms)")),
    ("nfe", "NFE forward", "NFE backward", ("NFE forward", "NFE backward")),
)


def draw(bench: LabContext, rows: Rows, name: str, x: str, y: str, words: tuple[str, str]) -> None:
    """One panel per case; a method keeps its color in all of them. A cross on the upper edge is a solve that failed."""
    titles = list(dict.fromkeys(row["case"] for row in rows))
    labels = list(dict.fromkeys(row["gradient"] for row in rows))
    failed = [row for row in rows if row["status"] != "done" and row[x]]
    there = {row["gradient"] for row in rows if row[x] and row[y]} | {row["gradient"] for row in failed}
    # exact methods lie on one line: hollow marks that shrink show them all
    looks: dict[str, dict[str, Any]] = {
        label: style.line_style(i) | {"markersize": 12 - i, "fillstyle": "none"}
        for i, label in enumerate(labels)
        if label in there
    }
    columns = min(2, len(titles))
    with style.figure(-(-len(titles) // columns), columns) as (drawn, axes):
        for panel in axes.flat[len(titles) :]:
            panel.axis("off")
        for panel, title in zip(axes.flat, titles, strict=False):
            for label, look in looks.items():
                points = [(row[x], row[y]) for row in rows if row["case"] == title and row["gradient"] == label]
                points = [(a, b) for a, b in points if a and b]
                panel.plot(*(zip(*points, strict=True) if points else ((), ())), label=label, **look)
            mark_failed(panel, [row for row in failed if row["case"] == title], x, looks)
            if name == "nfe" and panel.lines:
                draw_equal(panel)
            style.log_scale(panel, "xy")
            panel.set(title=title, xlabel=words[0], ylabel=words[1])
        last = axes[0, -1]
        for status in dict.fromkeys(row["status"] for row in failed):
            last.plot([], [], "kx", label=f"no result: {status}")
        style.outside_legend(last)
        drawn.suptitle(f"solver {bench.settings.solver.name} where not said otherwise, float64")
        style.save(drawn, bench.figures / f"{name}.png", rows)


def mark_failed(panel: Any, rows: Rows, x: str, looks: dict[str, dict[str, Any]]) -> None:
    """A cross in the color of the method on the panel's upper edge: there is an x, and no y."""
    for row in rows:
        color = looks[row["gradient"]]["color"]
        panel.plot(row[x], 1.0, "x", color=color, clip_on=False, transform=panel.get_xaxis_transform())
