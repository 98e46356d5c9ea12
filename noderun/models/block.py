"""The continuous-depth block: its output is the solution at t1 of y' = f(t, y) from y(0) = input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Solve = Callable[..., Any]  # (f, y0, ts) -> Solution with .ys [len(ts), *y0.shape] and .stats
MakeDynamics = Callable[[tuple[int, ...]], nn.Module]


class ODEBlock(nn.Module):
    """y0 [B, ...] to y(t1) of the same shape; ``stats`` are the last solve's, None before the first."""

    def __init__(self, dynamics: nn.Module, solve: Solve, t1: float = 1.0) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.solve = solve
        self.t1 = t1
        self.stats: Any = None

    def forward(self, y0: Tensor) -> Tensor:
        # Under autocast y0 may come in half precision; the steps' sums need more digits than f does.
        y0 = y0 if y0.dtype == torch.float64 else y0.float()
        solution = self.solve(self.dynamics, y0, [0.0, self.t1])  # host numbers: a tensor would cost a device sync
        self.stats = solution.stats
        return solution.ys[-1]


def statistics(model: nn.Module) -> list[Any]:
    """The statistics of every block's last solve, in the model's order; empty for a model that solves nothing."""
    blocks = (module for module in model.modules() if isinstance(module, ODEBlock))
    return [block.stats for block in blocks if block.stats is not None]
