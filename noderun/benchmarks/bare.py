"""dopri5 as the shortest loop that torch allows: the cost of a solver in Python without any feature.

No checks, no gradients, no outputs on the way; everything of one call stays in local names.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from noderun.benchmarks.problems import Problem
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.control import StepOptions, first_step
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta


def bare_loop(problem: Problem) -> Callable[[], Tensor]:
    """The solve of a problem with two times; returns ys [2, B, D]."""
    method = METHODS["dopri5"]
    assert isinstance(method, ExplicitRungeKutta)
    tableau, f, like = method.tableau, problem.f, problem.y0
    a = torch.tensor([[*row, *[0.0] * (7 - len(row))] for row in tableau.a[1:]], dtype=like.dtype, device=like.device)
    e = torch.tensor(tableau.error, dtype=like.dtype, device=like.device)
    control, (start, end), size = StepOptions(problem.tol, problem.tol), problem.ts, like.numel()

    @torch.no_grad()
    def run() -> Tensor:
        t, y = start, like.reshape(-1)
        k = y.new_empty(7, size)
        columns = [k[: i + 1].t() for i in range(7)]

        def slope(t: float, y: Tensor) -> Tensor:
            return f(torch.full((), t, dtype=like.dtype, device=like.device), y.view(like.shape)).reshape(-1)

        k[0] = slope(t, y)
        h = first_step(control, slope, t, y, k[0], end - start, method.error_order)
        while t < end:
            h = min(h, end - t)
            weights = a * h
            for i, c in enumerate(tableau.c[1:]):
                stage = torch.addmv(y, columns[i], weights[i, : i + 1])
                k[i + 1] = slope(t + c * h, stage)
            scale = torch.maximum(y.abs(), stage.abs()).mul_(problem.tol).add_(problem.tol)
            error = abs(h) * float(torch.linalg.vector_norm(torch.mv(columns[6], e).div_(scale)).item()) / size**0.5
            if error <= 1:
                t, y = t + h, stage
                k[0] = k[6]
            h *= min(10.0, max(0.2, 0.9 * max(error, 1e-12) ** -0.2))
        return torch.stack((like, y.view(like.shape)))

    return run
