"""The asynchronous leapfrog integrator (MALI): a velocity v is carried beside y and reflected at f of the midpoint."""

from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Quadrature, Step
from noderun.ode.solvers.reversible import Carry, Reversible, evaluate, parabola


class AsynchronousLeapfrog(Reversible):
    """m = y + h/2 v;  v1 = 2 f(t + h/2, m) - v;  y1 = m + h/2 v1.  aux is [v], f(t, y) at first."""

    def initial(self, y: Tensor, slope: Tensor) -> list[Tensor]:
        return [slope]

    def step(self, field: Field, t: float, y: Tensor, h: float, work: Carry, estimate: bool) -> Step:
        (v,) = self.auxiliary(field, t, y, work)
        middle = y.add(v, alpha=h / 2)
        u = evaluate(field, t + h / 2, middle)
        v1 = 2 * u - v
        work.next, work.next_integrand = [v1], field.integrand
        step = parabola(t, h, y, middle.add(v1, alpha=h / 2), v, u - v, work if estimate else None)
        step.quadrature = Quadrature.of((work.integrand, work.next_integrand), (0.0, 1.0), (-1.0, 1.0), h)
        return step

    def reverse(self, field: Field, t: float, h: float, y1: Tensor, aux1: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (v1,) = aux1
        middle = y1.sub(v1, alpha=h / 2)
        v = 2 * evaluate(field, t + h / 2, middle) - v1
        return middle.sub(v, alpha=h / 2), [v]


METHOD = AsynchronousLeapfrog(
    "asynchronous_leapfrog",
    source="Mutze 2013, arXiv:1311.6602; Zhuang et al. 2021 (MALI)",
    description="reversible, order 2, one evaluation per step",
)
