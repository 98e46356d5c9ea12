"""The explicit Adams methods of orders 1 to 5."""

from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.fixed_adams import FixedAdams
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.multistep import History, combine, weights


class AdamsBashforth(FixedAdams):
    """One evaluation per step: the interpolant through the last k values of f, extrapolated over the step."""

    def formula(self, field: Field, t: float, y: Tensor, h: float, work: History) -> Step:
        k = self.order
        nodes, points = work.nodes(t, h, k), list(zip(work.slopes[:k], work.integrands[:k], strict=True))
        y1 = combine(y, work.slopes[:k], [h * w for w in weights(nodes)])
        return self.polynomial(t, h, y, y1, nodes, points)


METHOD = AdamsBashforth(
    "adams_bashforth",
    order=4,
    source="Bashforth, Adams 1883; Hairer, Norsett, Wanner, Solving ODEs I, III.1",
    description="explicit multistep, one evaluation per step; order 1 to 5",
)
