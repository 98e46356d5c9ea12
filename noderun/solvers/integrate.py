"""One solve from the first to the last output time: the loop runs over steps, outputs are read off them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.solvers.control import Control
from noderun.solvers.errors import NonFiniteDynamics, SolveError
from noderun.solvers.field import VectorField
from noderun.solvers.method import Method, Step
from noderun.solvers.stages import under_transform
from noderun.solvers.statistics import Statistics
from noderun.solvers.stepper import Stepper


@dataclass(frozen=True)
class Problem:
    """An initial value problem as every gradient method receives it: flat, with host times."""

    field: VectorField
    y0: Tensor  # [N]
    ts: Sequence[float]  # monotone, either way
    method: Method
    control: Control
    stats: Statistics
    params: tuple[Tensor, ...] = ()  # what f depends on and may require gradients


@dataclass(frozen=True)
class Taken:
    """An accepted step, and the outputs that were read off it: (index into ts, theta); theta = 1 is its end."""

    step: Step
    t_end: float
    outputs: list[tuple[int, float]]


def integrate(problem: Problem, observe: Callable[[Taken], None] | None = None) -> Tensor:
    """ys [len(ts), N]; with autograd on, differentiable through every accepted step."""
    outputs = Outputs(problem.ts, problem.y0)
    field, stats = problem.field, problem.stats
    stepper = Stepper(problem.method, field, problem.control, problem.ts[0], problem.y0)

    def on_step(step: Step, t_end: float) -> None:
        read = outputs.read(step, t_end)
        if observe is not None:
            observe(Taken(step, t_end, read))

    before, jacobians, factorizations = field.nfe, field.jacobians, field.factorizations
    try:
        stepper.advance(problem.ts[-1], on_step)
        if problem.control.dt is not None and not under_transform() and not torch.isfinite(stepper.y).all():
            raise stepper.failure(NonFiniteDynamics, "the solution became NaN or infinite")
    except SolveError as error:
        error.ys = outputs.stacked()
        raise
    finally:
        stats.nfe_forward += field.nfe - before
        stats.jacobians += field.jacobians - jacobians
        stats.factorizations += field.factorizations - factorizations
        stats.accepted += stepper.accepted
        stats.rejected += stepper.rejected
    return outputs.stacked()


class Outputs:
    """Collects y at the times ts while the steps go by."""

    def __init__(self, ts: Sequence[float], y0: Tensor) -> None:
        self.ts, self.y0 = ts, y0
        self.ys: list[Tensor] = [y0 for t in ts if t == ts[0]]
        self.sign = 1.0 if ts[-1] >= ts[0] else -1.0

    def read(self, step: Step, t_end: float) -> list[tuple[int, float]]:
        """Take the outputs in (t, t_end]; those inside come from the continuous extension, all at once."""
        first, slack = len(self.ys), 1e-9 * abs(step.h)
        passed = first
        while passed < len(self.ts) and self.sign * (t_end - self.ts[passed]) >= -slack:
            passed += 1
        if passed == first:
            return []
        thetas = [(self.ts[i] - step.t) / step.h for i in range(first, passed)]
        inside = sum(theta < 1 - 1e-9 for theta in thetas)
        if inside:
            self.ys.extend(step.interpolate(thetas[:inside]).unbind())
        self.ys.extend([step.y1] * (len(thetas) - inside))
        return [(first + i, theta if i < inside else 1.0) for i, theta in enumerate(thetas)]

    def stacked(self) -> Tensor:
        """[len(ts), N], NaN where the solve did not arrive."""
        missing = len(self.ts) - len(self.ys)
        return torch.stack([*self.ys, *[torch.full_like(self.y0, torch.nan)] * missing])
