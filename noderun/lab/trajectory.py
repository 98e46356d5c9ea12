"""lab=trajectory: one solve, step by step, beside the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.measure import relative_distance, run_solver
from noderun.lab.reference import origin, reference
from noderun.ode.solvers import SOLVERS, Solution, SolveError
from noderun.report import style

SHOWN = 6  # components that a panel can tell apart


def run(context: LabContext) -> LabResult:
    problem, solver = context.problem, context.settings.solver.name
    solution, seconds = run_solver(problem, solver, steps=True, **context.steps)
    if solution.status != "done":
        raise failure(context, solution)
    ts, ys = solution.ts.tolist(), solution.ys.cpu()
    truth = reference(problem, ts)
    draw(context, step_rows(ts, ys, truth), len(problem.y0))
    stats, implicit = solution.stats, SOLVERS[solver].implicit
    values = {
        "steps_accepted": stats.accepted,
        "steps_rejected": stats.rejected,
        "nfe_forward": stats.nfe_forward,
        "jacobians": stats.jacobians if implicit else None,
        "factorizations": stats.factorizations if implicit else None,
        "numerical_error": relative_distance(ys[-1], truth[-1]),
    }
    row = dict(zip(("steps", "rejected", "NFE", "Jacobians", "LU", "error"), values.values(), strict=True))
    names = {"problem": problem.name, "solver": solver}
    return LabResult([names | row | {"reference": origin(problem), "seconds": seconds}], values)


def failure(context: LabContext, solution: Solution) -> SolveError:
    """The sentence about a solve that did not reach its end."""
    stats, problem = solution.stats, context.problem
    steps = stats.accepted + stats.rejected
    reached = solution.ts[torch.isfinite(solution.ys).all(dim=1)][-1].item()
    what = f"{context.settings.solver.name} on {problem.name}: {solution.status} at t = {reached:g} after {steps} steps"
    stiff = [name for name, info in SOLVERS.items() if info.implicit and info.adaptive]
    hint = f"; the problem is stiff, try solver={stiff[-1]}" if problem.stiff and stiff else ""
    return SolveError(what + hint, reached, steps)


def step_rows(ts: list[float], ys: Tensor, truth: Tensor) -> Rows:
    """One row per accepted step; its error is relative to the solution's largest norm so far."""
    scale = truth.norm(dim=1).cummax(0).values
    errors = ((ys - truth).norm(dim=1) / scale).tolist()
    sizes = [None, *(b - a for a, b in zip(ts, ts[1:], strict=False))]
    states = ({f"y{i + 1}": value for i, value in enumerate(y)} for y in ys.tolist())
    return [
        {"t": t, "h": h, "error": error} | state for t, h, error, state in zip(ts, sizes, errors, states, strict=True)
    ]


def draw(context: LabContext, rows: Rows, n: int) -> None:
    problem, solver = context.problem, context.settings.solver.name
    ts = [row["t"] for row in rows]
    shown = [f"y{i + 1}" for i in range(min(n, SHOWN))]
    with style.figure(2, 2, width=5.2, height=3.4) as (drawn, axes):
        (states, plane), (errors, sizes) = axes
        for i, name in enumerate(shown):
            states.plot(ts, [row[name] for row in rows], label=name, **style.line_style(i), markersize=2)
        more = f" (the first {SHOWN} of {n} components)" if n > SHOWN else ""
        states.set(title=f"{problem.name} by {solver}{more}", ylabel="y")
        style.outside_legend(states)
        if n > 1:
            plane.plot([row["y1"] for row in rows], [row["y2"] for row in rows], marker=".", color=style.COLORS[0])
            plane.set(title="phase plane, a dot an accepted step", xlabel="y1", ylabel="y2")
        else:
            plane.axis("off")
        errors.semilogy(ts, [row["error"] or math.nan for row in rows], color=style.COLORS[1])
        errors.set(
            title=f"distance from the reference ({origin(problem)})", xlabel="t", ylabel="error / largest |y| so far"
        )
        sizes.semilogy(ts[1:], [row["h"] for row in rows[1:]], marker=".", color=style.COLORS[2])
        sizes.set(title=f"{len(rows) - 1} accepted steps", xlabel="t", ylabel="step size h")
        if logarithmic(ts):
            for panel in (states, errors, sizes):
                panel.set_xscale("log")
        style.save(drawn, context.figures / "trajectory.png", rows)


def logarithmic(ts: list[float]) -> bool:
    """Whether most of the change happens in the first hundredth of the time, as in ROBER."""
    early = ts[0] + 0.01 * (ts[-1] - ts[0])
    return sum(t < early for t in ts) > len(ts) / 2
