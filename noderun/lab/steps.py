"""lab=steps: exact solution, fixed steps and adaptive steps on one direction field, every step marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.measure import rejected, relative_distance, run_solver
from noderun.lab.reference import reference
from noderun.ode.solvers import Solution
from noderun.report import style

Line = dict[str, list[float]]  # t and y
CURVE = 400  # points of a smooth line


def run(context: LabContext) -> LabResult:
    problem, options, solver = context.problem, context.settings.lab, context.settings.solver.name
    grid = np.linspace(*problem.span, CURVE).tolist()
    fixed, _ = run_solver(problem, options.fixed, dt=options.dt, steps=True)
    adaptive, _ = run_solver(problem, solver, steps=True, **context.steps)
    between, _ = run_solver(problem, solver, ts=grid, **context.steps)
    names = (f"{options.fixed}, h = {options.dt:g}", adaptive_name(context))
    exact = {"t": grid, "y": reference(problem, grid)[:, 0].tolist()}
    curves = {"exact": exact, names[0]: points(fixed), names[1]: points(between)}
    marks = {names[0]: points(fixed), names[1]: points(adaptive)}
    done = zip(names, (options.fixed, solver), (fixed, adaptive), strict=True)
    rows = [cost_row(context, *each) for each in done]
    draw(context, curves, marks, {row["solver"]: f"{row['steps']} steps, {row['NFE']} NFE" for row in rows})
    keys = {"nfe_forward": "NFE", "steps_accepted": "steps", "steps_rejected": "rejected", "numerical_error": "error"}
    return LabResult(rows, {key: rows[1][column] for key, column in keys.items()})


def cost_row(context: LabContext, name: str, solver: str, solution: Solution) -> dict[str, Any]:
    stats, truth = solution.stats, reference(context.problem, context.problem.span)[-1]
    counts = {"steps": stats.accepted, "rejected": rejected(solver, solution), "NFE": stats.nfe_forward}
    return {"solver": name} | counts | {"error": relative_distance(solution.ys[-1].cpu(), truth)}


def adaptive_name(context: LabContext) -> str:
    choice = context.settings.solver
    return f"{choice.name}, " + (f"rtol = {choice.rtol:g}" if choice.dt is None else f"h = {choice.dt:g}")


def points(solution: Solution) -> Line:
    return {"t": solution.ts.tolist(), "y": solution.ys[:, 0].tolist()}


def draw(context: LabContext, curves: dict[str, Line], marks: dict[str, Line], cost: dict[str, str]) -> None:
    """Three panels as in Duvenaud's talk: exact; with fixed steps; with adaptive steps too."""
    values = [y for line in curves.values() for y in line["y"] if np.isfinite(y)]
    margin = 0.1 * (max(values) - min(values))
    box = (*context.problem.span, min(values) - margin, max(values) + margin)
    with style.figure(1, 3) as (drawn, axes):
        for shown, panel in enumerate(axes[0]):
            direction_field(context, panel, box)
            for i, (name, line) in enumerate(list(curves.items())[: shown + 1]):
                look = style.line_style(i)
                panel.plot(line["t"], line["y"], color=look["color"], label="exact" if i == 0 else None)
                if name in marks:
                    steps, label = marks[name], f"{name}: {cost[name]}"
                    panel.plot(steps["t"], steps["y"], color=look["color"], marker=look["marker"], ls="", label=label)
            panel.set(xlabel="t", ylabel="y", xlim=box[:2], ylim=box[2:])
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15))
        drawn.suptitle(f"{context.problem.name}: a mark is a step, the line between is the solver's own")
        style.save(drawn, context.figures / "steps.png", rows_of(curves, "line") + rows_of(marks, "step"))


def rows_of(lines: dict[str, Line], kind: str) -> Rows:
    return [
        {"solver": name, "kind": kind, "t": t, "y": y}
        for name, line in lines.items()
        for t, y in zip(line["t"], line["y"], strict=True)
    ]


def direction_field(context: LabContext, panel: Any, box: tuple[float, ...]) -> None:
    """Short lines of slope f(t, y), all of one length on paper."""
    ts, ys = np.meshgrid(np.linspace(box[0], box[1], 22), np.linspace(box[2], box[3], 18))
    pairs = zip(ts.flat, ys.flat, strict=True)
    slopes = [float(context.problem.f(torch.tensor(t), torch.tensor([y], dtype=torch.float64))) for t, y in pairs]
    across, up = box[1] - box[0], box[3] - box[2]
    dy = np.array(slopes).reshape(ts.shape) * across / up
    length = np.hypot(1.0, dy)
    look = {"headwidth": 1, "headlength": 0, "headaxislength": 0, "pivot": "mid", "color": "#bbbbbb", "width": 0.003}
    panel.quiver(ts, ys, 1 / length, dy / length, angles="uv", scale=30, **look)
