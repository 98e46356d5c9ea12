"""lab=order: the observed order of a solver, from its errors at halved steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.measure import family, measure
from noderun.lab.problems import Problem
from noderun.ode.solvers import SOLVERS
from noderun.report import style

SMALLEST, LARGEST = 3e-13, 0.3  # below: round-off; above: not yet asymptotic
UNSTABLE = 10.0  # relative errors from here on are not drawn
FITTED = 3  # of the smallest steps that are neither
SPREAD = 0.25  # of the slopes between neighboring steps, up to which their error counts as asymptotic


def run(context: LabContext) -> LabResult:
    options, problem = context.settings.lab, context.problem
    names = context.solvers(options.solvers, lambda info: info.fixed_step, "takes no fixed steps")
    points: Rows = [row for name in names for row in errors(problem, name, options.steps)]
    fits = {name: observed_order(of(points, name)) for name in names}
    rows = [
        {
            "solver": name,
            "order": SOLVERS[name].order,
            "observed order": fits[name].slope,
            "asymptotic": fits[name].asymptotic,
            "smallest error": min((row["error"] for row in of(points, name) if row["error"]), default=None),
        }
        for name in names
    ]
    draw(context, points, rows)
    return LabResult(rows, {"nfe_forward": sum(row["NFE"] for row in points)})


def of(points: Rows, solver: str) -> Rows:
    return [row for row in points if row["solver"] == solver]


def errors(problem: Problem, solver: str, steps: Sequence[int]) -> Rows:
    """One row per number of steps."""
    span = problem.span[1] - problem.span[0]
    rows = []
    for n in sorted(steps):
        found = measure(problem, solver, dt=span / n, max_steps=2 * n)
        row: dict[str, Any] = {"solver": solver, "family": family(solver), "h": span / n, "steps": n}
        rows.append(row | {"error": found.error, "NFE": found.nfe, "status": found.status})
        if found.error is not None and found.error < SMALLEST:
            break  # smaller steps would show round-off
    return rows


class Fit(NamedTuple):
    """An observed order, and whether the slopes that it is the mean of agree; None if too few steps are usable."""

    slope: float | None
    asymptotic: bool | None


def observed_order(rows: Rows) -> Fit:
    """Slope of log error over log h, fitted to the smallest steps.

    Errors that no longer fall with h are those of Newton's iteration and of rounding, not of the method.
    """
    found = sorted(((row["h"], row["error"]) for row in rows if row["error"]), reverse=True)
    falling = [new for old, new in zip([(0.0, math.inf), *found], found, strict=False) if new[1] < old[1] / 1.5]
    usable = [point for point in falling if SMALLEST < point[1] < LARGEST][-FITTED:]
    if len(usable) < 2:
        return Fit(None, None)
    h, error = np.log(np.array(usable)).T
    slopes = np.diff(error) / np.diff(h)
    return Fit(float(np.polyfit(h, error, 1)[0]), len(slopes) > 1 and bool(np.ptp(slopes) < SPREAD))


def draw(context: LabContext, points: Rows, rows: Rows) -> None:
    families = list(dict.fromkeys(row["family"] for row in points))
    labels = {row["solver"]: label(row["solver"], row["observed order"], row["asymptotic"]) for row in rows}
    labeled = [row | {"label": labels[row["solver"]]} for row in points if (row["error"] or math.inf) < UNSTABLE]
    columns = min(2, len(families))
    shared = {"sharex": True, "sharey": True}
    with style.figure(math.ceil(len(families) / columns), columns, **shared) as (drawn, axes):
        for panel in axes.flat[len(families) :]:
            panel.axis("off")
        for panel, kind in zip(axes.flat, families, strict=False):
            style.draw_lines(panel, [row for row in labeled if row["family"] == kind], "h", "error", "label")
            panel.set(title=kind, xlabel="step size h", ylabel=f"relative error at t = {context.problem.span[1]:.4g}")
            panel.tick_params(labelbottom=True)  # the last row may be shorter
            style.outside_legend(panel, title="solver (slope; ? not asymptotic)")
        style.log_scale(axes[0, 0], "xy")
        drawn.suptitle(f"Observed order on {context.problem.name}")
        style.save(drawn, context.figures / "order.png", points)


def label(solver: str, slope: float | None, asymptotic: bool | None) -> str:
    return f"{solver} ({'-' if slope is None else f'{slope:.2f}'}{'' if asymptotic in (True, None) else '?'})"
