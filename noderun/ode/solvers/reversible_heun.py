"""The reversible Heun method: Heun's with its predictions on a track of their own."""

from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Quadrature, Step
from noderun.ode.solvers.reversible import Carry, Reversible, evaluate, parabola


class ReversibleHeun(Reversible):
    """z1 = 2 y - z + h g;  g1 = f(t + h, z1);  y1 = y + h/2 (g + g1).  aux is [z, g], [y, f(t, y)] at first."""

    def initial(self, y: Tensor, slope: Tensor) -> list[Tensor]:
        return [y, slope]

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Carry, estimate: bool) -> Step:
        z, g = self.auxiliary(field, t, y, work)
        z1 = (2 * y - z).add(g, alpha=h)
        g1 = evaluate(field, t + h, z1)
        work.next, work.next_integrand = [z1, g1], field.integrand
        step = parabola(t, h, y, y.add(g + g1, alpha=h / 2), g, (g1 - g) / 2, work if estimate else None)
        step.quadrature = Quadrature.of((work.integrand, work.next_integrand), (0.5, 0.5), (-0.5, 0.5), h)
        return step

    def reverse(self, field: Field, t: float, h: float, y1: Tensor, aux1: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        z1, g1 = aux1
        z = (2 * y1 - z1).sub(g1, alpha=h)
        g = evaluate(field, t, z)
        return y1.sub(g + g1, alpha=h / 2), [z, g]


METHOD = ReversibleHeun(
    "reversible_heun",
    source="Kidger, Foster, Li, Lyons 2021, Efficient and Accurate Gradients for Neural SDEs, algorithm 1",
    description="reversible, order 2, one evaluation per step",
)
