"""A classical initial value problem and what is known about its solution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Exact = Callable[[float], Sequence[float]]


@dataclass(frozen=True)
class Problem:
    """y' = f(t, y), y(span[0]) = y0; f takes a 0-dim t and y [N], real of any precision.

    ``exact`` is the solution in closed form where there is one; ``invariants`` are functions of y that stay as they
    are along a solution; ``separable`` says that y is (q, p) in halves and f the field of H = T(t, p) + V(t, q).
    ``plane`` are the two components, counted from 0, that show most of it.
    """

    name: str
    f: Callable[[Tensor, Tensor], Tensor]
    y0: tuple[float, ...]
    span: tuple[float, float]
    source: str
    exact: Exact | None = None
    invariants: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    stiff: bool = False
    separable: bool = False
    plane: tuple[int, int] = (0, 1)

    def start(self, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(self.y0, dtype=dtype)
