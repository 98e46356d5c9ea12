"""Stochastic equations with solutions in closed form, as functions of the path; float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import noderun


@dataclass(frozen=True)
class Exact:
    """dy = f dt + g dW with y(1) = exact(y0, W(1)); ``drift`` by interpretation."""

    drift: dict[str, Callable[[Tensor, Tensor], Tensor]]
    g: Callable[[Tensor, Tensor], Tensor]
    exact: Callable[[Tensor, Tensor], Tensor]
    y0: float


MU, SIGMA, A = 0.4, 0.7, 0.5
GBM = Exact(
    drift={"ito": lambda t, y: MU * y, "stratonovich": lambda t, y: (MU - SIGMA**2 / 2) * y},
    g=lambda t, y: SIGMA * y,
    exact=lambda y0, w: y0 * torch.exp(MU - SIGMA**2 / 2 + SIGMA * w),
    y0=1.0,
)
# Kloeden, Platen 1992, (4.4.46): y = tan(a W + arctan y0), here with the hyperbolic tangent, whose g is bounded
TANH = Exact(
    drift={"ito": lambda t, y: -(A**2) * y * (1 - y**2), "stratonovich": lambda t, y: torch.zeros_like(y)},
    g=lambda t, y: A * (1 - y**2),
    exact=lambda y0, w: torch.tanh(A * w + torch.atanh(y0)),
    y0=0.3,
)

METHODS = [
    ("euler", "ito"),
    ("milstein", "ito"),
    ("milstein", "stratonovich"),
    ("heun", "stratonovich"),
    ("midpoint", "stratonovich"),
    ("reversible_heun", "stratonovich"),
]


class Net(torch.nn.Module):
    """A small neural SDE with every type of noise."""

    def __init__(self, size: int = 3, columns: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b, self.c = (
            torch.nn.Parameter(0.5 * torch.randn(shape, generator=generator, dtype=torch.float64))
            for shape in ((size, size), (size,), (size, columns))
        )

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(y @ self.a) - y + 0.1 * t

    def diagonal(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.3 * torch.sigmoid(self.b * y)

    def scalar(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.3 * torch.sigmoid(self.b * y.sum(-1, keepdim=True))

    def general(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.3 * torch.sigmoid(y.unsqueeze(-1) * self.c)

    def additive(self, t: Tensor, y: Tensor) -> Tensor:
        return (0.3 * torch.sigmoid(self.c) * (1 + t)).expand(len(y), -1, -1)


def path(n: int, shape: tuple[int, ...], seed: int = 0) -> noderun.BrownianPath:
    """A path on [0, 1] in n cells."""
    return noderun.BrownianPath([i / n for i in range(n + 1)], shape, seed=seed, dtype=torch.float64)
