"""The state y and a quadrature r beside it as one vector field, which every gradient method can differentiate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noderun.ode.solvers.nesting import tensors_in

Field = Callable[[Tensor, Any], Any]
Integrand = Callable[[Field, Tensor, Any], tuple[Any, Tensor]]
Regularizer = Callable[[Any], Integrand]


class Quadrature(nn.Module):
    """d(y, r)/dt = (f(t, y), integrand) for any state y and r [B]; a Module, so that f's parameters are found.

    Each tensor of ``y0`` is [B, ...].
    """

    def __init__(self, f: nn.Module, integrand: Integrand, y0: Any) -> None:
        super().__init__()
        self.f = f
        self.integrand = integrand
        tensors = list(tensors_in(y0))
        self.size, self.batch = sum(y.numel() for y in tensors), len(tensors[0])

    def forward(self, t: Tensor, state: tuple[Any, Tensor]) -> tuple[Any, Tensor]:
        dy, dr = self.integrand(self.f, t, state[0])
        return dy, dr.to(next(tensors_in(dy)).dtype)

    def norm(self, v: Tensor) -> Tensor:
        """Root mean square over y, which comes first in v: nothing depends on r, so it must not choose the steps.

        v [N] is the state of the whole batch, or of one sample if each has its own steps.
        """
        count = v.shape[-1] * self.size // (self.size + self.batch)
        return torch.linalg.vector_norm(v[..., :count], dim=-1) / count**0.5


def mean_square(v: Tensor) -> Tensor:
    """[B] of [B, ...]."""
    return v.flatten(1).square().mean(1)


def require_tensor(regularizer: object, y0: Any) -> None:
    """Raise TypeError for a nested state: which of its parts a penalty is about, only its author can say."""
    if not isinstance(y0, Tensor):
        raise TypeError(
            f"{type(regularizer).__name__} takes a state that is one tensor, not {type(y0).__name__}; a regularizer of "
            "your own (class:) can pick the part that it penalizes"
        )
