"""Adaptive steps: a step of h against two of h/2 on the same path.

A rejected step is tried again with a smaller h, and the path, which is a function of its seed, is asked for its
increments in between. So nothing of it is thrown away, and the steps may depend on it: Gaines, Lyons 1997; Ilie,
Jackson, Enright 2015.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Quadrature, Step
from noderun.sde.field import sde_field
from noderun.sde.solvers.method import SDEMethod, straight


class Doubled(SDEMethod):
    """Two steps of h/2 by ``base``; their distance from one step of h is the error estimate."""

    def __init__(self, base: SDEMethod) -> None:
        self.base, self.name, self.order = base, base.name, base.order
        self.info = replace(base.info, adaptive=True)

    def along(self, field: Field, t: float, y: Tensor, h: float, dw: Tensor) -> Step:
        return self.base.along(field, t, y, h, dw)

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Any, estimate: bool) -> Step:
        own, middle = sde_field(field), t + h / 2
        halves = own.increment(t, middle), own.increment(middle, t + h)
        first = self.base.along(field, t, y, h / 2, halves[0])
        second = self.base.along(field, middle, first.y1, h / 2, halves[1])
        error: Tensor | None = None
        if estimate:
            error = (second.y1 - self.base.along(field, t, y, h, halves[0] + halves[1]).y1).detach()
        return Step(t, h, y, second.y1, error, straight(y, second.y1), joined(first.quadrature, second.quadrature))


def joined(first: Quadrature | None, second: Quadrature | None) -> Quadrature | None:
    """The sum of two integrals."""
    if first is None or second is None:
        return None
    return Quadrature([*first.integrands, *second.integrands], [*first.weights, *second.weights], [])
