"""The Adams-Moulton methods of orders 1 to 5 as predictor and corrector (PECE)."""

from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.fixed_adams import FixedAdams
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.multistep import History, combine, weights
from noderun.ode.solvers.times import stage_times


class AdamsMoulton(FixedAdams):
    """Predict by Adams-Bashforth of the same order, evaluate, correct, evaluate: two evaluations per step."""

    def formula(self, field: Field, t: float, y: Tensor, h: float, work: History) -> Step:
        k = self.order
        nodes = work.nodes(t, h, k)
        predicted = combine(y, work.slopes[:k], [h * w for w in weights(nodes)])
        slope = field(stage_times(t, h, (1.0,), y, field.bounds)[0], predicted)
        past = zip(work.slopes[: k - 1], work.integrands[: k - 1], strict=True)
        nodes, points = [1.0, *nodes[: k - 1]], [(slope, field.integrand), *past]
        y1 = combine(y, [slope for slope, _ in points], [h * w for w in weights(nodes)])
        return self.polynomial(t, h, y, y1, nodes, points)


METHOD = AdamsMoulton(
    "adams_moulton",
    order=4,
    source="Moulton 1926; Hairer, Norsett, Wanner, Solving ODEs I, III.1",
    description="multistep predictor and corrector, two evaluations per step; order 1 to 5",
)
