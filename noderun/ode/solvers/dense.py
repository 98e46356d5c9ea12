"""The solution at any time of a finished solve."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.outputs import NODES
from noderun.ode.solvers.times import NEAR


class DenseOutput:
    """y(t) from the values at the nodes of every step, which hold each step's own continuous extension exactly."""

    def __init__(self, steps: Sequence[tuple[float, float, list[int]]], rows: Tensor) -> None:
        self.starts = torch.tensor([t for t, _, _ in steps], dtype=torch.float64)
        self.sizes = torch.tensor([h for _, h, _ in steps], dtype=torch.float64)
        self.index = torch.tensor([nodes for _, _, nodes in steps], device=rows.device)
        self.rows = rows  # [rows, N]

    def __call__(self, t: Tensor) -> Tensor:
        """[n, N] at t [n]; ValueError outside the interval of the solve."""
        t = t.detach().to("cpu", torch.float64).contiguous()
        forward = bool(self.sizes[0] > 0)
        ends = self.starts + self.sizes
        low, high = (self.starts[0], ends[-1]) if forward else (ends[-1], self.starts[0])
        slack = NEAR * self.sizes.abs().max()
        if not ((t >= low - slack) & (t <= high + slack)).all():
            raise ValueError(f"interpolate got times outside of [{low:g}, {high:g}], the interval of the solve")
        starts, at = (self.starts, t) if forward else (-self.starts, -t)
        step = (torch.searchsorted(starts, at, right=True) - 1).clamp_min(0)
        weights = barycentric((t - self.starts[step]) / self.sizes[step]).to(self.rows)
        return torch.einsum("nj,njk->nk", weights, self.rows[self.index[step.to(self.index.device)]])


def barycentric(theta: Tensor) -> Tensor:
    """Weights [n, 9] of the values at NODES; Berrut, Trefethen 2004, SIAM Review 46(3), (4.2) and (5.4)."""
    nodes = torch.tensor(NODES, dtype=torch.float64)
    signs = torch.tensor([0.5, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.5], dtype=torch.float64)
    distance = theta.unsqueeze(-1) - nodes
    hit = distance == 0
    weights = signs / torch.where(hit, 1.0, distance)
    weights = torch.where(hit.any(-1, keepdim=True), hit.to(weights), weights)
    return weights / weights.sum(-1, keepdim=True)
