"""lab=work_precision: evaluations of f and time against the error reached."""

from __future__ import annotations

from typing import Any

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.measure import Measurement, family, measure
from noderun.ode.solvers import SOLVERS
from noderun.report import style

SLOW = 0.2


def run(context: LabContext) -> LabResult:
    options, stiff = context.settings.lab, context.problem.stiff
    names = context.solvers(
        options.solvers, lambda info: not stiff or (info.implicit and info.adaptive), "cannot afford a stiff problem"
    )
    rows = [row for name in names for row in curve(context, name)]
    draw(context, rows)
    return LabResult(rows, {"nfe_forward": sum(row["NFE"] for row in rows)})


def curve(context: LabContext, solver: str) -> Rows:
    """One row per tolerance, or per number of fixed steps if the solver has no tolerance."""
    problem, options = context.problem, context.settings.lab
    span = problem.span[1] - problem.span[0]
    if SOLVERS[solver].adaptive:
        ways: list[dict[str, Any]] = [{"rtol": tol, "atol": tol} for tol in sorted(options.tolerances, reverse=True)]
    else:
        ways = [{"dt": span / n} for n in sorted(options.steps)]
    rows = []
    for way in ways:
        found = fastest(context, solver, way)
        row = {"solver": solver, "family": family(solver), "tolerance": way.get("rtol"), "dt": way.get("dt")}
        rows.append(row | {
            "error": found.error,
            "NFE": found.nfe,
            "Jacobians": found.jacobians if SOLVERS[solver].implicit else None,
            "steps": found.accepted,
            "rejected": found.rejected,
            "milliseconds": 1e3 * found.seconds,
            "status": found.status,
        })  # fmt: skip
    return rows


def fastest(context: LabContext, solver: str, way: dict[str, Any]) -> Measurement:
    """The fastest of several repeats, as other programs only slow a solve down; one of SLOW seconds runs once."""
    options = context.settings.lab
    found = [measure(context.problem, solver, max_steps=options.max_steps, **way)]
    while len(found) < options.repeats and found[0].seconds < SLOW:
        found.append(measure(context.problem, solver, max_steps=options.max_steps, **way))
    return min(found, key=lambda measurement: measurement.seconds)


def draw(context: LabContext, rows: Rows) -> None:
    families = list(dict.fromkeys(row["family"] for row in rows))
    shared: dict[str, Any] = {"sharex": "col", "sharey": True}  # the families are compared with one another
    with style.figure(len(families), 2, **shared) as (drawn, axes):
        for panels, kind in zip(axes, families, strict=True):
            ours = [row for row in rows if row["family"] == kind and row["error"]]
            for panel, x in zip(panels, ("NFE", "milliseconds"), strict=True):
                style.draw_lines(panel, ours, x, "error", "solver")
                panel.set_title(kind)
            panels[0].set_ylabel(f"relative error at t = {context.problem.span[1]:.4g}")
            style.outside_legend(panels[1])
        for panel, name in zip(axes[-1], ("NFE", "time (ms)"), strict=True):
            style.log_scale(panel, "xy")
            panel.set_xlabel(name)
        drawn.suptitle(f"Work and precision on {context.problem.name} (float64, one solve of batch 1)")
        style.save(drawn, context.figures / "work_precision.png", rows)
