"""The Euler-Maruyama method."""

from collections.abc import Callable

from torch import Tensor

from noderun.sde.solvers.method import SDEInfo, StraightPathMethod


class Euler(StraightPathMethod):
    """y1 = y + f h + g dW."""

    name, order, weights = "euler", 1, (1.0,)
    info = SDEInfo(
        interpretations=("ito",),
        strong_orders=(0.5, 0.5, 1.0),
        source="Maruyama 1955; Kloeden, Platen 1992, (10.2.4)",
        description="Euler-Maruyama: one evaluation per step, any noise",
    )

    def end(self, velocity: Callable[[float, Tensor], Tensor], y: Tensor, h: float) -> Tensor:
        return y.add(velocity(0.0, y), alpha=h)


METHOD = Euler()
