"""The state y and a quadrature r beside it as one vector field, which every gradient method can differentiate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Field = Callable[[Tensor, Tensor], Tensor]
Integrand = Callable[[Field, Tensor, Tensor], tuple[Tensor, Tensor]]
Regularizer = Callable[[Tensor], Integrand]


class Quadrature(nn.Module):
    """d(y, r)/dt = (f(t, y), integrand) for y [B, ...] and r [B]; a Module, so that f's parameters are found."""

    def __init__(self, f: nn.Module, integrand: Integrand, y0: Tensor) -> None:
        super().__init__()
        self.f = f
        self.integrand = integrand
        self.size, self.batch = y0.numel(), len(y0)

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        dy, dr = self.integrand(self.f, t, state[0])
        return dy, dr.to(dy.dtype)

    def norm(self, v: Tensor) -> Tensor:
        """Root mean square over y alone, which comes first in v: r acts on nothing, so it shall not choose the steps.

        v [N] is the whole batch's state, or one sample's where each has its own steps.
        """
        count = v.shape[-1] * self.size // (self.size + self.batch)
        return torch.linalg.vector_norm(v[..., :count], dim=-1) / count**0.5


def mean_square(v: Tensor) -> Tensor:
    """[B] of [B, ...]."""
    return v.flatten(1).square().mean(1)
