"""Every method of fixed order has, at its steps and between them, the order that it states."""

import math

import numpy as np
import pytest
import torch
from problems import NONAUTONOMOUS, SEPARABLE, Exact

import noderun
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.splitting import Splitting
from noderun.ode.solvers.tableau import ButcherTableau

MULTISTEP = [(name, {"order": k}) for name in ("adams_bashforth", "adams_moulton") for k in range(1, 6)]
RICHARDSON = [("richardson", {"method": name}) for name in ("euler", "rk4")]
FIXED = [(name, {}) for name, info in noderun.SOLVERS.items() if info.fixed_step and info.order is not None]
CASES = [*FIXED, *MULTISTEP, *RICHARDSON]
IDS = ["-".join([name, *map(str, options.values())]) for name, options in CASES]


def problem_for(name: str) -> Exact:
    return SEPARABLE if isinstance(METHODS[name], Splitting) else NONAUTONOMOUS


def errors(name: str, options: dict, steps: int) -> tuple[float, float]:
    """The error at the end, and the root mean square of those between the steps."""
    problem = problem_for(name)
    h = (problem.t1 - problem.t0) / steps
    starts = sorted({steps * i // 9 for i in range(9)})
    inside = [problem.t0 + h * (start + theta) for start in starts for theta in (0.31, 0.52, 0.78)]
    ts = torch.tensor([problem.t0, *inside, problem.t1], dtype=torch.float64)
    with torch.no_grad():
        sol = noderun.solve(
            problem.f, problem.y0, ts, solver=name, solver_options=options, dt=h, rtol=1e-12, atol=1e-12, throw=False
        )
    flat = torch.cat([*sol.ys], dim=1) if isinstance(sol.ys, tuple) else sol.ys
    exact = [problem.at(t) for t in ts.tolist()]
    exact = torch.stack([torch.cat(y) if isinstance(y, tuple) else y for y in exact])
    off = (flat - exact).abs().amax(1)
    return off[-1].item(), off[1:-1].square().mean().sqrt().item()


COARSE = {1: 3e-2}  # what counts as asymptotic; by order, else 1e-2


def slope(steps: list[int], values: list[float], coarse: float) -> float:
    """The fitted order over what is fine enough to be asymptotic and coarse enough to stand above round-off."""
    kept = [(math.log(n), math.log(e)) for n, e in zip(steps, values, strict=True) if 2e-13 < e < coarse][-4:]
    assert len(kept) >= 3, f"too few errors in range: {values}"
    return -np.polyfit(*np.array(kept).T, 1)[0]


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_observed_order(name, options):
    method = METHODS[name].with_options(**options)
    coarse = COARSE.get(method.order, 1e-2)
    steps, ends, insides = [], [], []
    for n in (4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 512, 1024, 2048):
        end, inside = errors(name, options, n)
        steps, ends, insides = [*steps, n], [*ends, end], [*insides, inside]
        if sum(e < coarse for e in ends) >= 5 and sum(e < coarse for e in insides) >= 5:
            break
    assert slope(steps, ends, coarse) >= method.order - 0.3
    assert slope(steps, insides, coarse) >= dense_order(method) - 0.3


def dense_order(method) -> int:
    """What is asked between the steps: the tableau's own order and one, elsewhere a cubic Hermite's."""
    if not isinstance(getattr(method, "tableau", None), ButcherTableau):
        return min(method.order, 4)
    return min(method.order, 1 + method.tableau.dense_order)
