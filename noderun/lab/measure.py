"""One solve of a problem: its error and its cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.lab.problems import Problem
from noderun.lab.reference import reference
from noderun.ode.engine import solve
from noderun.ode.solvers import SOLVERS, Info, Solution

NEWTON = 1e-12  # where steps are fixed the tolerances only bound Newton's iteration


@dataclass(frozen=True)
class Measurement:
    """``error`` is the relative distance of y(t1) from the reference; None if the solve failed."""

    error: float | None
    nfe: int
    jacobians: int
    factorizations: int
    accepted: int
    rejected: int | None
    seconds: float
    status: str


def run_solver(
    problem: Problem,
    solver: str,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    dt: float | None = None,
    ts: Sequence[float] | None = None,
    max_steps: int = 10_000,
    options: Mapping[str, Any] | None = None,
    device: str = "cpu",
    steps: bool = False,
    **control: Any,
) -> tuple[Solution, float]:
    """The solution in float64 at ``ts`` (default: both ends) without gradients, and the seconds it took.

    With ``steps`` at every accepted step too.
    """
    f, y0 = problem.f, problem.start().to(device)
    paired = takes_pair(SOLVERS[solver])
    with torch.no_grad():
        start = time.perf_counter()
        solution = solve(
            as_pair(f) if paired else f,
            y0.chunk(2) if paired else y0,
            list(ts or problem.span),
            solver=solver,
            solver_options=options,
            rtol=NEWTON if rtol is None else rtol,
            atol=NEWTON if atol is None else atol,
            dt=dt,
            max_steps=max_steps,
            steps=steps,
            throw=False,
            **control,
        )
        seconds = time.perf_counter() - start
    if paired:
        solution.ys = torch.cat(solution.ys, dim=-1)
    return solution, seconds


def takes_pair(info: Info) -> bool:
    """Whether the state is (q, p) as two tensors."""
    return info.symplectic and not info.implicit


def as_pair(f: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, tuple[Tensor, Tensor]], tuple[Tensor, ...]]:
    return lambda t, y: f(t, torch.cat(y)).chunk(2)


def measure(problem: Problem, solver: str, **settings: Any) -> Measurement:
    """One timed solve and its error; ``settings`` as in run_solver."""
    solution, seconds = run_solver(problem, solver, **settings)
    stats, status = solution.stats, str(solution.status)
    end = solution.ys[-1].cpu()
    error = relative_distance(end, reference(problem, problem.span)[-1]) if status == "done" else None
    return Measurement(
        error=error,
        nfe=int(stats.nfe_forward),
        jacobians=int(stats.jacobians),
        factorizations=int(stats.factorizations),
        accepted=int(stats.accepted),
        rejected=rejected(solver, solution),
        seconds=seconds,
        status=status,
    )


def rejected(solver: str, solution: Solution) -> int | None:
    """The attempts that the solver has rejected; None of scipy's, which tells no one."""
    return None if solver == "scipy" else int(solution.stats.rejected)


def relative_distance(value: Tensor, truth: Tensor) -> float:
    return float((value - truth).norm() / truth.norm())


def unsuitable(problem: Problem, info: Info) -> str | None:
    """Why a solver of this kind cannot integrate this problem; None if it can."""
    if takes_pair(info) and not problem.separable:
        return f"needs a state (q, p), and {problem.name} has none"
    return None


def family(name: str) -> str:
    """The family that a solver is compared within: methods of similar cost and stability."""
    info = SOLVERS[name]
    if takes_pair(info) or info.reversible:
        return "symplectic or reversible"
    if info.implicit:
        return "implicit, adaptive" if info.adaptive else "implicit, fixed steps"
    return "explicit, adaptive" if info.adaptive else "explicit, fixed steps"
