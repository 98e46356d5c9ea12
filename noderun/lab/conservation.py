"""lab=conservation: the drift of a conserved quantity over many periods, at equal cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from noderun.lab.context import LabContext, LabResult, Rows
from noderun.lab.measure import run_solver
from noderun.ode.solvers import SOLVERS
from noderun.report import style

PERIOD = 2 * math.pi  # of Kepler's problem, and of a harmonic oscillator of frequency 1
SAMPLES = 5  # a period; the largest of their errors is the period's


def run(context: LabContext) -> LabResult:
    problem, options = context.problem, context.settings.lab
    if not problem.invariants:
        raise ValueError(f"lab=conservation needs a conserved quantity; {problem.name} has none (try problem=kepler)")
    quantity, invariant = next(iter(problem.invariants.items()))
    beside = set(options.beside) & set(SOLVERS) | {context.settings.solver.name}
    names = context.solvers(
        options.solvers,
        lambda info: info.fixed_step and (bool(options.solvers) or info.symplectic or info.reversible),
        "takes no fixed steps",
    )
    fixed = {name for name in beside if SOLVERS[name].fixed_step}
    names += [] if options.solvers else sorted(fixed - set(names))
    points: Rows = []
    rows: Rows = []
    for name in names:
        drift, summary = follow(context, name, invariant)
        points += drift
        rows.append({"solver": name, "symplectic": SOLVERS[name].symplectic} | summary)
    draw(context, quantity, points)
    return LabResult(rows, {"nfe_forward": sum(row["NFE"] for row in rows)})


def follow(
    context: LabContext, solver: str, invariant: Callable[[Tensor], Tensor]
) -> tuple[Rows, dict[str, float | int]]:
    """The relative error of the invariant over time, and its growth from the first to the last tenth."""
    options = context.settings.lab
    dt = step_size(context, solver)
    end = options.periods * PERIOD
    ts = torch.linspace(0, end, options.periods * SAMPLES + 1, dtype=torch.float64).tolist()
    solution, seconds = run_solver(context.problem, solver, dt=dt, ts=ts, max_steps=10 * math.ceil(end / dt))
    values = invariant(solution.ys)
    relative = ((values[1:] - values[0]) / values[0]).abs()
    errors = relative.view(options.periods, SAMPLES).amax(dim=1).tolist()
    tenth = max(1, len(errors) // 10)
    first, last = max(errors[:tenth]), max(errors[-tenth:])
    summary = {
        "h": dt,
        "NFE": solution.stats.nfe_forward,
        "largest error": max(errors),
        "last tenth / first tenth": last / first if first else 1.0,
        "seconds": seconds,
    }
    rows = [{"solver": solver, "period": i, "error": error} for i, error in enumerate(errors, start=1)]
    return rows, summary


def step_size(context: LabContext, solver: str) -> float:
    """The step at which a period costs the same for every solver: the NFE per step come from two trial runs."""
    short, long = (
        run_solver(context.problem, solver, dt=0.01, ts=(0.0, 0.01 * n))[0].stats.nfe_forward for n in (10, 20)
    )
    return PERIOD * (long - short) / 10 / context.settings.lab.nfe_per_period


def draw(context: LabContext, quantity: str, points: Rows) -> None:
    with style.figure() as (drawn, axes):
        panel = axes[0, 0]
        for i, name in enumerate(dict.fromkeys(row["solver"] for row in points)):
            ours = [row for row in points if row["solver"] == name and math.isfinite(row["error"])]
            look = style.line_style(i) | {"marker": "none", "linewidth": "1"}
            panel.plot([row["period"] for row in ours], [max(row["error"], 1e-17) for row in ours], label=name, **look)
        style.log_scale(panel, "y")
        nfe = context.settings.lab.nfe_per_period
        panel.set(title=f"{context.problem.name}: {quantity}, {nfe} evaluations of f per period", xlabel="periods")
        panel.set_ylabel(f"largest relative error of the {quantity} in a period")
        style.outside_legend(panel)
        style.save(drawn, context.figures / "conservation.png", points)
