"""The reference of a solve: the exact solution, or scipy's at tolerances near round-off if there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.integrate import OdeSolution, solve_ivp
from torch import Tensor

from noderun.lab.problems import Problem

# Radau's steps grow as tolerance^-1/4 and a tighter one than this costs minutes
RTOL = {"DOP853": 1e-13, "Radau": 1e-10}
ATOL = {"DOP853": 1e-15, "Radau": 1e-16}  # the second component of ROBER is below 1e-4 and falls to 1e-7

_solved: dict[tuple[object, ...], OdeSolution] = {}  # scipy's, for the rest of the process


def reference(problem: Problem, ts: Sequence[float]) -> Tensor:
    """y at each of ``ts`` [len(ts), N] in float64."""
    if problem.exact is not None:
        return torch.tensor([problem.exact(t) for t in ts], dtype=torch.float64)
    probe = problem.f(torch.tensor(problem.span[0]), problem.start() + 0.1)  # tells fields of other constants apart
    key = (problem.name, problem.y0, problem.span, tuple(probe.tolist()))
    if key not in _solved:
        _solved[key] = _scipy(problem)
    return torch.from_numpy(np.ascontiguousarray(_solved[key](np.asarray(ts)).T))


def origin(problem: Problem) -> str:
    """The origin of the reference, in words."""
    method = "Radau" if problem.stiff else "DOP853"
    return "exact solution" if problem.exact is not None else f"scipy {method}, rtol {RTOL[method]:g}"


def _scipy(problem: Problem) -> OdeSolution:
    """The solution with its dense output, from which scipy itself takes what lies between two steps."""
    method = "Radau" if problem.stiff else "DOP853"

    def f(t: Any, y: Tensor) -> Tensor:
        return problem.f(torch.as_tensor(t, dtype=torch.float64), y)

    jacobian = torch.func.jacrev(f, argnums=1)
    options: dict[str, Any] = {"rtol": RTOL[method], "atol": ATOL[method]}
    if problem.stiff:
        options["jac"] = lambda t, y: jacobian(t, torch.from_numpy(y)).numpy()
    found = solve_ivp(
        lambda t, y: f(t, torch.from_numpy(y)).numpy(), problem.span, problem.y0, method, dense_output=True, **options
    )
    if not found.success:
        raise RuntimeError(f"scipy's {method} found no reference for {problem.name}: {found.message}")
    return found.sol
