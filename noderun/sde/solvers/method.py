"""What every method for SDEs offers: facts about itself, and one step along the path."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, evaluate
from noderun.ode.solvers.method import Info, Method, Quadrature, Step
from noderun.ode.solvers.times import stage_times
from noderun.sde.field import sde_field

FIRST = 0.01  # of the interval: the first step of an adaptive solve
ANY = ("diagonal", "scalar", "general", "additive")


@dataclass(frozen=True)
class SDEInfo(Info):
    """Facts about a method for SDEs; the strong orders are those for noise that is general, diagonal and additive."""

    interpretations: tuple[str, ...] = ()
    noises: tuple[str, ...] = ANY
    strong_orders: tuple[float | None, float, float] = (0.5, 1.0, 1.0)


class SDEMethod(Method[Any]):
    """A one-step method, whose work space is empty."""

    info: SDEInfo
    error_order = 0  # the factor on h is the error ratio to the power -1: cautious for strong order 1.0

    def start(self, y: Tensor) -> None:
        return None

    def accept(self, work: Any) -> None:
        pass

    def restart(self, work: Any) -> None:
        pass

    def derivative(self, field: Field, t: float, y: Tensor, work: Any) -> Tensor:
        return evaluate(sde_field(field), t, y)

    def first_size(self, field: Field, control: StepOptions, t: float, y: Tensor, span: float, work: Any) -> float:
        return FIRST * span

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Any, estimate: bool) -> Step:
        return self.along(field, t, y, h, sde_field(field).increment(t, t + h))

    @abstractmethod
    def along(self, field: Field, t: float, y: Tensor, h: float, dw: Tensor) -> Step:
        """A step by h over which the path moves by ``dw``, shaped like g."""


class StraightPathMethod(SDEMethod):
    """A Runge-Kutta method along dy/dt = F(t, y) = f(t, y) + g(t, y) dW/h, the path being straight within the step."""

    weights: tuple[float, ...]  # of F at the stages

    def along(self, field: Field, t: float, y: Tensor, h: float, dw: Tensor) -> Step:
        own = sde_field(field)
        integrands: list[Tensor | None] = []

        def velocity(c: float, state: Tensor) -> Tensor:
            value = field(stage_times(t, h, (c,), state, field.bounds)[0], state)
            integrands.append(field.integrand)
            return value

        own.rate = dw * (1 / h)
        y1 = self.end(velocity, y, h)
        own.rate = None
        quadrature = Quadrature.of(integrands, self.weights, (), h) if field.has_quadrature else None
        return Step(t, h, y, y1, None, straight(y, y1), quadrature)

    @abstractmethod
    def end(self, velocity: Callable[[float, Tensor], Tensor], y: Tensor, h: float) -> Tensor:
        """y1 from F at (t + c h, y), which is ``velocity(c, y)``."""


def straight(y: Tensor, y1: Tensor) -> Callable[[Sequence[float]], Tensor]:
    """y in between; outputs are ends of steps, so nothing is read off it."""
    return lambda thetas: torch.stack([torch.lerp(y, y1, theta) for theta in thetas])
