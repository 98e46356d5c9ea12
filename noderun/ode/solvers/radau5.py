"""Radau IIA collocation with three nodes, with the error estimate and step size prediction of the code RADAU5."""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.ode.solvers.collocation import CollocationMethod, CollocationWork
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.implicit import steady
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.step_size import AFTER_REJECTION, LEAST_RATIO
from noderun.ode.solvers.times import stage_times

S6 = 6**0.5
GAMMA = 1 / (3 + 3 ** (2 / 3) - 3 ** (1 / 3))  # the real eigenvalue of A
ERROR = ((-13 - 7 * S6) / 3, (-13 + 7 * S6) / 3, -1 / 3)  # HW II, (IV.8.18)
LEAST_BEFORE = 1e-2  # the error ratio before counts as at least this in the prediction, as in the code RADAU5


class RadauWork(CollocationWork):
    """``h`` of the current step and ``before`` of the last accepted one, for the predicted step size."""

    def __init__(self, y: Tensor) -> None:
        super().__init__(y)
        self.h = 0.0
        self.before = 0.0
        self.retried = True  # the first step is treated like one after a rejection; HW II, (IV.8.20)


class Radau5(CollocationMethod[RadauWork]):
    """Collocation at Radau's three nodes, as the code RADAU5 controls its steps."""

    def start(self, y: Tensor) -> RadauWork:
        return RadauWork(y)

    def attempt(self, field: Field, t: float, y: Tensor, h: float, work: RadauWork, estimate: bool) -> Step:
        work.h = h
        return super().attempt(field, t, y, h, work, estimate)

    def error(
        self, field: Field, t: float, y: Tensor, y1: Tensor, h: float, stages: Tensor, work: RadauWork
    ) -> Tensor | None:
        """(I - h gamma J)^-1 (h gamma f(t, y) + gamma sum_i e_i Z_i), and again if it is large; HW II, IV.8."""
        assert work.solver is not None and self.control is not None
        weights = ((h * GAMMA,),)
        with torch.no_grad():
            y, y1 = y.detach(), y1.detach()
            combined = GAMMA * torch.tensor(ERROR, dtype=y.dtype, device=y.device) @ stages.detach()
            slope = self.slope(field, t, y, work).detach()
            error = work.solver.apply(field, weights, (combined + h * GAMMA * slope).unsqueeze(0))[0]
            if work.retried and self.control.ratio(error.clone(), y, y1) > 1:
                slope = field(stage_times(t, h, (0.0,), y, field.bounds)[0], y + error, False)
                error = work.solver.apply(field, weights, (combined + h * GAMMA * slope).unsqueeze(0))[0]
        return error

    def factor(self, work: RadauWork, control: StepOptions, errors: tuple[float, float, float], retried: bool) -> float:
        """Gustafsson's predictive controller, more careful the more iterations Newton needed; HW II, (IV.8.23-25)."""
        assert work.solver is not None
        newest, before = max(errors[0], LEAST_RATIO), max(errors[1], LEAST_BEFORE)
        limit = work.solver.limit
        safety = control.controller.safety * (2 * limit + 1) / (2 * limit + work.solver.iterations)
        predicted = abs(work.h / work.before) * (before / newest) ** 0.25 if work.before else 1.0
        factor = safety * newest**-0.25 * min(1.0, predicted)
        factor = min(control.controller.max_factor, max(control.controller.min_factor, factor))
        work.retried = newest > 1
        factor = min(factor, AFTER_REJECTION) if retried else factor
        return steady(factor) if newest <= 1 else factor

    def accept(self, work: RadauWork) -> None:
        super().accept(work)
        work.before, work.retried = work.h, False

    def restart(self, work: RadauWork) -> None:
        super().restart(work)
        work.before, work.retried = 0.0, True


METHOD = Radau5(
    "radau5",
    5,
    ((4 - S6) / 10, (4 + S6) / 10, 1.0),
    source="Ehle 1969; Hairer, Wanner, Solving ODEs II, IV.8",
    description="adaptive, order 5 with an estimate of order 3, L-stable: the reference for stiff problems",
    error_order=3,
)
