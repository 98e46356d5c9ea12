"""The reversible Heun method."""

from __future__ import annotations

from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.reversible import Carry, Reversible
from noderun.ode.solvers.times import stage_times
from noderun.sde.field import SDEField
from noderun.sde.solvers.method import SDEInfo, straight


class ReversibleHeun(Reversible):
    """z1 = 2 y - z + f h + g dW;  y1 = y + ((f + f1) h + (g + g1) dW) / 2.

    f and g are at (t, z), f1 and g1 at (t + h, z1). aux is [z, f, g], at first at z = y. Kidger, Foster, Li, Lyons
    2021, algorithms 1 and 2.
    """

    order, error_order = 1, 0

    def __init__(self) -> None:
        self.name = "reversible_heun"
        self.info = SDEInfo(
            reversible=True,
            interpretations=("stratonovich",),
            source="Kidger, Foster, Li, Lyons 2021, Efficient and Accurate Gradients for Neural SDEs, algorithm 1",
            description="steps can be undone exactly: one evaluation per step, any noise",
        )

    def initial(self, y: Tensor, slope: Tensor) -> list[Tensor]:
        raise NotImplementedError  # ``auxiliary`` takes f and g apart

    def auxiliary(self, field: Field, t: float, y: Tensor, work: Carry) -> list[Tensor]:
        return work.aux if work.aux is not None else [y, *evaluated(field, t, y)]

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Carry, estimate: bool) -> Step:
        assert isinstance(field, SDEField)
        z, f, g = self.auxiliary(field, t, y, work)
        dw = field.increment(t, t + h)
        z1 = field.moved((2 * y - z).add(f, alpha=h), g, dw)
        f1, g1 = evaluated(field, t + h, z1)
        y1 = field.moved(y.add(f + f1, alpha=h / 2), g + g1, dw / 2)
        work.next = [z1, f1, g1]
        return Step(t, h, y, y1, None, straight(y, y1))

    def reverse(self, field: Field, t: float, h: float, y1: Tensor, aux1: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        assert isinstance(field, SDEField)
        z1, f1, g1 = aux1
        dw = field.increment(t, t + h)
        z = field.moved((2 * y1 - z1).sub(f1, alpha=h), g1, -dw)
        f, g = evaluated(field, t, z)
        return field.moved(y1.sub(f + f1, alpha=h / 2), g + g1, dw / -2), [z, f, g]


def evaluated(field: Field, t: float, y: Tensor) -> list[Tensor]:
    """[f, g] at t."""
    assert isinstance(field, SDEField)
    return field.leaves(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y)


METHOD = ReversibleHeun()
