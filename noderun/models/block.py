"""The continuous-depth block: its output is the solution at t1 of y' = f(t, y) from y(0) = input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.solvers import METHODS
from noderun.regularizers import Local, Quadrature, Regularizer

Solve = Callable[..., Any]  # (f, y0, ts) -> Solution with .ys [len(ts), *y0.shape] and .stats
MakeDynamics = Callable[[tuple[int, ...]], nn.Module]


class ODEBlock(nn.Module):
    """y0 [B, ...] to y(t1) of the same shape; ``stats`` are the last solve's, None before the first.

    With a ``regularizer`` a pass in training leaves ``penalty``, the batch's mean of its integral over the solve.
    """

    def __init__(self, dynamics: nn.Module, solve: Solve, t1: float = 1.0) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.solve = solve
        self.t1 = t1
        self.stats: Any = None
        self.regularizer: Regularizer | Local | None = None
        self.penalty: Tensor | None = None

    def forward(self, y0: Tensor) -> Tensor:
        # Under autocast y0 may come in half precision; the steps' sums need more digits than f does.
        y0 = y0 if y0.dtype == torch.float64 else y0.float()
        if self.regularizer is None or not self.training:
            solution = self.solve(self.dynamics, y0, [0.0, self.t1])  # host numbers: a tensor would cost a device sync
            self.stats, self.penalty = solution.stats, None
            return solution.ys[-1]
        if isinstance(self.regularizer, Local):
            return self.with_local(self.regularizer, y0)
        f = Quadrature(self.dynamics, self.regularizer(y0), y0)
        solution = self.solve(f, (y0, y0.new_zeros(len(y0))), [0.0, self.t1], norm=f.norm)
        ys, integrals = solution.ys
        self.stats, self.penalty = solution.stats, integrals[-1].mean()
        return ys[-1]

    def with_local(self, regularizer: Local, y0: Tensor) -> Tensor:
        t = torch.rand(()).item() * self.t1
        solution = self.solve(self.dynamics, y0, [0.0, t, self.t1])
        self.stats = solution.stats
        step = self.t1 / float(torch.as_tensor(solution.stats.accepted, dtype=torch.float64).mean())
        tableau = METHODS[self.solve.keywords["solver"]].tableau  # type: ignore[attr-defined]
        self.penalty = self.t1 * regularizer(self.dynamics, tableau, t, solution.ys[1], step)
        return solution.ys[-1]


def statistics(model: nn.Module) -> list[Any]:
    """The statistics of every block's last solve, in the model's order; empty for a model that solves nothing."""
    blocks = (module for module in model.modules() if isinstance(module, ODEBlock))
    return [block.stats for block in blocks if block.stats is not None]
