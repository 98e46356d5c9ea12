"""What is known of the system behind a series, for objectives and figures that compare a model with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class System:
    """The true dy/dt = ``field(y)`` and the conserved ``energy(y)`` [...] of states y [..., D], where they are known.

    Of a stochastic system dy = field(y) dt + diffusion(y) dW, ``diffusion(y)`` [..., D] is a number per component.

    ``rate(t)`` is that of the Poisson process of the observations' times, per unit of time.

    ``parameters`` are the true values by name, [] or one per series [N]. ``published`` are estimates of others with
    the ends of their intervals: (low, estimate, high).
    """

    field: Callable[[Tensor], Tensor] | None = None
    energy: Callable[[Tensor], Tensor] | None = None
    diffusion: Callable[[Tensor], Tensor] | None = None
    rate: Callable[[Tensor], Tensor] | None = None
    parameters: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    published: Mapping[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)
    extent: tuple[float, ...] | None = None
