"""The explicit midpoint method for Stratonovich equations."""

from collections.abc import Callable

from torch import Tensor

from noderun.sde.solvers.method import SDEInfo, StraightPathMethod


class Midpoint(StraightPathMethod):
    """y' = y + F(t, y) h/2;  y1 = y + F(t + h/2, y') h."""

    name, order, weights = "midpoint", 1, (0.0, 1.0)
    info = SDEInfo(
        interpretations=("stratonovich",),
        source="Ruemelin 1982; Kidger 2022, On Neural Differential Equations, 5.1",
        description="explicit midpoint rule: two evaluations per step, any noise",
    )

    def end(self, velocity: Callable[[float, Tensor], Tensor], y: Tensor, h: float) -> Tensor:
        return y.add(velocity(0.5, y.add(velocity(0.0, y), alpha=h / 2)), alpha=h)


METHOD = Midpoint()
