"""Adams's method of variable order 1 to 12 and variable step, as predictor and corrector (PECE).

The family of LSODE and VODE, with which Chen et al. 2018 integrated; the formulation is Shampine and Gordon's 1975
(Hairer, Norsett, Wanner, Solving ODEs I, III.5 and III.7): the error at order k is the difference of the correctors
through k and k + 1 points, and the second of them is carried on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.multistep import History, Multistep, combine, increments, weights
from noderun.ode.solvers.step_size import LEAST_RATIO, REJECTED
from noderun.ode.solvers.times import stage_times

HIGHEST = 12
GROWTH = 1.1
SAFETY = (1.3, 1.2, 1.4)  # LSODE's bias against a change of order: below, at and above the order in use


class Adams(Multistep):
    """Predict, evaluate, correct, evaluate; the order follows from the error estimates."""

    reach = HIGHEST

    def step(self, field: Field, t: float, y: Tensor, h: float, work: History, estimate: bool) -> Step:
        self.derivative(field, t, y, work)
        k = work.order
        nodes = work.nodes(t, h, k + 1)
        predicted = combine(y, work.slopes[:k], [h * w for w in weights(nodes[:k])])
        slope = field(stage_times(t, h, (1.0,), y, field.bounds)[0], predicted)
        points = [(slope, field.integrand), *zip(work.slopes[:k], work.integrands[:k], strict=True)]
        corrector = [1.0, *nodes[:k]]
        y1 = combine(y, [slope, *work.slopes[:k]], [h * w for w in weights(corrector)])
        step = self.polynomial(t, h, y, y1, corrector, points)
        if estimate:
            step.error = self.errors(h, [1.0, *nodes], [slope, *work.slopes[: k + 1]], k)
        return step

    def errors(self, h: float, nodes: list[float], slopes: list[Tensor], k: int) -> Tensor:
        """Estimates at order k, and at k - 1 and k + 1 if there are such: [m, N]."""
        rows = increments(nodes)
        chosen = [rows[m] for m in (k, k - 1, k + 1) if 1 <= m < len(rows)]
        padded = [[*(h * w for w in row), *[0.0] * (len(nodes) - len(row))] for row in chosen]
        values = torch.stack([slope.detach() for slope in slopes])
        return torch.tensor(padded, dtype=values.dtype).to(values.device, non_blocking=True) @ values

    def ratio(self, work: History, control: StepOptions, step: Step) -> float:
        assert step.error is not None
        work.estimates = control.ratios(step.error, step.y.detach(), step.y1.detach())
        return work.estimates[0]

    def factor(self, work: History, control: StepOptions, errors: tuple[float, float, float], retried: bool) -> float:
        """The largest factor on h that an order offers; the order changes with it."""
        offers = self.offers(work) if errors[0] <= work.estimates[0] else self.tried(work, errors[0])
        order = max(offers, key=lambda m: offers[m])
        factor = min(2.0, max(0.2, offers[order]))
        if errors[0] > 1:
            work.order = work.next_order = min(order, work.order)
            return min(factor, REJECTED)
        work.next_order = order
        return factor if factor < 1 or factor >= GROWTH else 1.0

    def tried(self, work: History, error: float) -> dict[int, float]:
        """The same if integrals beside the state decide, whose error is known at the order in use alone.

        The order then goes up with every accepted step, as far as the history reaches, and down after a rejection.
        """
        k = work.order
        following = max(k - 1, 1) if error > 1 else min(k + 1, HIGHEST, len(work.slopes))
        return {following: max(error, LEAST_RATIO) ** (-1 / (k + 1)) / SAFETY[1]}

    def offers(self, work: History) -> dict[int, float]:
        """The factor on h that each order would allow."""
        k = work.order
        orders = [m for m in (k, k - 1, k + 1) if m >= 1]
        pairs = zip(orders, work.estimates, strict=False)  # k + 1 is missing if the history is short
        return {m: max(e, LEAST_RATIO) ** (-1 / (m + 1)) / SAFETY[m - k + 1] for m, e in pairs if m <= HIGHEST}


METHOD = Adams(
    "adams",
    order=None,
    adaptive=True,
    source="Shampine, Gordon 1975; Hairer, Norsett, Wanner, Solving ODEs I, III.5 and III.7",
    description="adaptive multistep of variable order 1 to 12, two evaluations per step",
)
