"""Adams methods of one order with steps of one size, started by steps of order 8."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from noderun.ode.solvers.dop853 import METHOD as STARTER
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.multistep import History, Multistep

HIGHEST = 5


class FixedAdams(Multistep):
    """Order k from k values of f; until the history holds them, steps are dop853's."""

    def __init__(self, name: str, order: int, source: str, description: str) -> None:
        super().__init__(name, order, False, source, description)
        self.reach = order - 1
        self.about = (source, description)

    def with_options(self, order: int | None = None, **options: Any) -> FixedAdams:
        super().with_options(**options)
        if order is None:
            return self
        if order not in range(1, HIGHEST + 1):
            raise ValueError(f"solver '{self.name}' has orders 1 to {HIGHEST}, not {order!r}")
        return type(self)(self.name, order, *self.about)

    def step(self, field: Field, t: float, y: Tensor, h: float, work: History, estimate: bool) -> Step:
        if len(work.times) - work.known < self.order - 1:
            return self.starting_step(field, t, y, h, work)
        self.derivative(field, t, y, work)
        return self.formula(field, t, y, h, work)

    def starting_step(self, field: Field, t: float, y: Tensor, h: float, work: History) -> Step:
        """A step of the starter, whose first stage is f at the step's start."""
        stages = STARTER.start(y)
        step = STARTER.step(field, t, y, h, stages, estimate=False)
        if not work.known:
            slope = stages.graph[0] if work.recording else stages.ks[0].clone()
            assert slope is not None
            work.push(t, slope, stages.integrands[0])
        return step

    @abstractmethod
    def formula(self, field: Field, t: float, y: Tensor, h: float, work: History) -> Step:
        """The step, once the history holds k values of f."""
