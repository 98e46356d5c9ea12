"""Heun's method for Stratonovich equations."""

from collections.abc import Callable

from torch import Tensor

from noderun.sde.solvers.method import SDEInfo, StraightPathMethod


class Heun(StraightPathMethod):
    """y' = y + F(t, y) h;  y1 = y + (F(t, y) + F(t + h, y')) h/2."""

    name, order, weights = "heun", 1, (0.5, 0.5)
    info = SDEInfo(
        interpretations=("stratonovich",),
        source="Ruemelin 1982; Kloeden, Platen 1992, 11.1",
        description="explicit trapezoidal rule: two evaluations per step, any noise",
    )

    def end(self, velocity: Callable[[float, Tensor], Tensor], y: Tensor, h: float) -> Tensor:
        first = velocity(0.0, y)
        return y.add(first + velocity(1.0, y.add(first, alpha=h)), alpha=h / 2)


METHOD = Heun()
