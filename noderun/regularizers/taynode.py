"""Higher derivatives of the solution: int |d^K y/dt^K|^2 dt / d (Kelly et al. 2020); a solver of order K - 1 feels it.

The total derivative along the flow is d/dt g(t, y(t)) = dg/dt + dg/dy f, a Jacobian-vector product; nested K - 1 times
from g = f it gives the K-th derivative, by forward-mode differentiation alone.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from noderun.regularizers.quadrature import Field, Integrand, mean_square, require_tensor


class TayNODE:
    def __init__(self, order: int = 3) -> None:
        self.order = order
        with warnings.catch_warnings(action="ignore"):
            # at its first use torch.func.jvp loads formulas which torch compiles by what it has itself deprecated
            torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))

    def __call__(self, y0: Tensor) -> Integrand:
        require_tensor(self, y0)
        return self.integrand

    def integrand(self, f: Field, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        dy = f(t, y)
        if self.order == 1:
            return dy, mean_square(dy)
        return dy, mean_square(along(derivative(f, self.order - 1), t, y, dy))


def derivative(f: Field, order: int) -> Field:
    """The order-th total derivative of y as a function of (t, y)."""
    if order == 1:
        return f
    lower = derivative(f, order - 1)
    return lambda t, y: along(lower, t, y, f(t, y))


def along(g: Field, t: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """d/dt g(t, y(t)) at a point where dy/dt = dy."""
    with torch.enable_grad():  # without it torch takes a form of silu and others that has one forward derivative only
        return torch.func.jvp(g, (t, y), (torch.ones_like(t), dy))[1]
