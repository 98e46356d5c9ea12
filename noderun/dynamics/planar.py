"""Gated planar units, the dynamics of Chen et al. 2018, section 4, as in torchdiffeq's examples/cnf.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PlanarUnits(nn.Module):
    """f(t, y) = 1/M sum_n g_n(t) u_n(t) tanh(w_n(t)^T y + b_n(t)) for y [B, D] (equations 9 and 10), M = ``units``.

    A hypernetwork 1 -> ``hidden`` -> ``hidden`` makes w, b, u and the logits of the gates g out of t.
    """

    def __init__(self, dim: int, units: int, hidden: int) -> None:
        super().__init__()
        self.dim, self.units = dim, units
        count = units * dim
        self.sizes = (count, count, count, units)  # of w, u, the gates and b
        self.hypernet = nn.Sequential(
            nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, sum(self.sizes))
        )

    def weights(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """w [b, M, D], gated u [b, M, D] and b [b, M] at t, where b is 1, or B if each example has its own time."""
        w, u, gate, bias = self.hypernet(t.reshape(-1, 1)).split(self.sizes, dim=1)
        shape = (-1, self.units, self.dim)
        return w.view(shape), (u * torch.sigmoid(gate)).view(shape), bias

    def activations(self, y: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        """tanh(w_n^T y + b_n) [B, M]."""
        product = y @ w[0].t() if len(w) == 1 else (w @ y.unsqueeze(2)).squeeze(2)
        return torch.tanh(product + bias)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        w, u, bias = self.weights(t)
        return self.velocity(self.activations(y, w, bias), u)

    def velocity(self, h: Tensor, u: Tensor) -> Tensor:
        total = h @ u[0] if len(u) == 1 else (h.unsqueeze(1) @ u).squeeze(1)
        return total / self.units

    def with_divergence(self, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """f, and tr df/dy = 1/M sum_n (1 - tanh^2(w_n^T y + b_n)) u_n^T w_n [B] (equation 8)."""
        w, u, bias = self.weights(t)
        h = self.activations(y, w, bias)
        return self.velocity(h, u), ((1 - h.square()) * (w * u).sum(2)).mean(1)
