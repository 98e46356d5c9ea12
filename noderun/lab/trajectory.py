"""lab=trajectory: one solve, step by step, beside the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.measure import rejected, relative_distance, run_solver
from noderun.lab.reference import origin, reference
from noderun.ode.solvers import SOLVERS, Solution, SolveError
from noderun.report import style

SHOWN = 6  # components that a panel can tell apart
DOTS = 200  # accepted steps that a panel can tell apart
DENSE = 4000  # points of a path, at least one per step


def run(context: LabContext) -> LabResult:
    problem, solver = context.problem, context.settings.solver.name
    solution, seconds = run_solver(problem, solver, steps=True, **context.steps)
    if solution.status != "done":
        raise failure(context, solution)
    ts, ys = solution.ts.tolist(), solution.ys.cpu()
    truth = reference(problem, ts)
    dense, _ = run_solver(problem, solver, dense=True, **context.steps)  # its own, for it may cost evaluations
    draw(context, step_rows(ts, ys, truth), path(dense, ts), len(problem.y0))
    stats, implicit = solution.stats, SOLVERS[solver].implicit
    values = {
        "steps_accepted": stats.accepted,
        "steps_rejected": rejected(solver, solution),
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
    what = (
        f"{context.settings.solver.name} on {problem.name}: {solution.status} after t = {reached:g}, in {steps} steps"
    )
    stiff = [name for name, info in SOLVERS.items() if info.implicit and info.adaptive]
    hint = f"; the problem is stiff, try solver={stiff[-1]}" if problem.stiff and stiff else ""
    fixed = context.steps.get("dt")
    if not hint and fixed is not None:
        hint = f"; the step may be too large, try solver.dt={fixed / 10:g}"
    return SolveError(what + hint, reached, steps)


def path(solution: Solution, ts: list[float]) -> tuple[list[float], Tensor]:
    """Times and states [n, N] by the continuous extension, several per accepted step: ends alone would draw chords."""
    inside = max(1, min(16, DENSE // max(len(ts) - 1, 1)))
    times = [a + (b - a) * i / inside for a, b in zip(ts, ts[1:], strict=False) for i in range(inside)] + ts[-1:]
    states = solution.interpolate(torch.tensor(times, dtype=torch.float64))
    return times, (torch.cat(states, dim=-1) if isinstance(states, tuple) else states).cpu()


def step_rows(ts: list[float], ys: Tensor, truth: Tensor) -> Rows:
    """One row per accepted step; its error is relative to the solution's largest norm so far."""
    scale = truth.norm(dim=1).cummax(0).values
    errors = ((ys - truth).norm(dim=1) / scale).tolist()
    sizes = [None, *(b - a for a, b in zip(ts, ts[1:], strict=False))]
    states = ({f"y{i + 1}": value for i, value in enumerate(y)} for y in ys.tolist())
    return [
        {"t": t, "h": h, "error": error} | state for t, h, error, state in zip(ts, sizes, errors, states, strict=True)
    ]


def draw(context: LabContext, rows: Rows, dense: tuple[list[float], Tensor], n: int) -> None:
    problem, solver = context.problem, context.settings.solver.name
    ts, (times, states_between) = [row["t"] for row in rows], dense
    shown, dots = [f"y{i + 1}" for i in range(min(n, SHOWN))], len(rows) <= DOTS
    with style.figure(2, 2) as (drawn, axes):
        (states, plane), (errors, sizes) = axes
        units = component_units(states_between[:, : len(shown)]) + [1.0] * (n - len(shown))
        named = [f"y{i + 1}" + (f" / {unit:g}" if unit != 1 else "") for i, unit in enumerate(units)]
        for i, (name, unit) in enumerate(zip(shown, units, strict=False)):
            line = style.line_style(i)
            marker, color = line.pop("marker"), line["color"]
            states.plot(times, states_between[:, i] / unit, label=named[i], **line)
            if dots:
                states.plot(ts, [row[name] / unit for row in rows], marker, color=color, markersize=2)
        more = f" (the first {SHOWN} of {n} components)" if n > SHOWN else ""
        states.set(title=f"{problem.name} by {solver}{more}", xlabel="t", ylabel="y")
        style.outside_legend(states)
        if n > 1:
            i, j = problem.plane
            plane.plot(states_between[:, i] / units[i], states_between[:, j] / units[j], color=style.COLORS[0])
            if dots:
                marks = [[row[f"y{k + 1}"] / units[k] for row in rows] for k in problem.plane]
                plane.plot(*marks, ".", color=style.COLORS[0])
            said = f"phase plane{', one dot per accepted step' if dots else ''}"
            plane.set(title=said, xlabel=named[i], ylabel=named[j])
        else:
            plane.axis("off")
        errors.semilogy(ts, [row["error"] or math.nan for row in rows], color=style.COLORS[1])
        errors.set(
            title=f"distance from the reference ({origin(problem)})", xlabel="t", ylabel="error / largest |y| so far"
        )
        steps = [row["h"] for row in rows[1:]]
        sizes.plot(ts[1:], steps, marker="." if dots else "", color=style.COLORS[2])
        sizes.set(title=f"{len(rows) - 1} accepted steps", xlabel="t", ylabel="step size h")
        if context.steps.get("dt") is None:
            style.log_scale(sizes, "y")
        else:  # fixed: rounding alone tells them apart, and the last one ends at the end
            sizes.set_ylim(0, 1.5 * max(steps))
        if logarithmic(ts):
            for panel in (states, errors, sizes):
                panel.set(xscale="log", xlim=(ts[1] / 2, ts[-1] * 2))  # before the first step a path is a line
        style.save(drawn, context.figures / "trajectory.png", rows)


def component_units(ys: Tensor) -> list[float]:
    """Of each component of a path [n, N] what it is divided by in a panel: 1, or a power of ten if their sizes differ
    so much that the small ones would be lines at 0."""
    sizes = ys.abs().amax(0).clamp_min(1e-300).tolist()
    if max(sizes) < 30 * min(sizes):
        return [1.0] * len(sizes)
    return [10.0 ** math.floor(math.log10(size)) for size in sizes]


def logarithmic(ts: list[float]) -> bool:
    """Whether most of the change happens in the first hundredth of the time, as in ROBER."""
    early = ts[0] + 0.01 * (ts[-1] - ts[0])
    return sum(t < early for t in ts) > len(ts) / 2
