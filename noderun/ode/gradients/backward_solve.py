"""One solve backwards in time from the last output to the first, which the continuous adjoints have in common.

    da/dt = -a^T df/dz,    dL/dtheta = -int_{t1}^{t0} a^T df/dtheta dt        (Chen et al. 2018, equations 4 and 5)

At each output its cotangent is added to a. The integral for theta does not act back on a, so it is a quadrature beside
the solve: the method's own weights times the vjp at its stages, or Gauss's formula on the step's continuous extension.
Its error counts in the step size control, see ``Integral``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.gradients.examination import check_solve
from noderun.ode.gradients.info import GradientOptions
from noderun.ode.gradients.integral import Integral, joined
from noderun.ode.gradients.way_back import WayBack
from noderun.ode.solvers.errors import SolveError
from noderun.ode.solvers.field import Integrand, VectorField
from noderun.ode.solvers.implicit import with_quadrature
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.stepper import Stepper

HALVINGS = 12  # of a step whose integral is not accurate enough, where the step itself cannot be tried again


class AdjointField(ABC):
    """The backward vector field on a state of several parts; ``integrand`` is a^T df/dtheta at the last point."""

    has_quadrature = True

    def __init__(self, gradient: str, field: VectorField, params: tuple[Tensor, ...], parts: int) -> None:
        self.gradient, self.field, self.params = gradient, field, params
        self.integrand: Integrand | None = None
        self.factorizations, self.bounds = 0, field.bounds
        shapes, sizes = field.layout.shapes * parts, field.layout.sizes * parts
        self.layout = Layout(shapes, sizes, tuple, None, False)

    @abstractmethod
    def parts(self, t: Tensor, state: Tensor, in_quadrature: bool) -> tuple[Tensor, ...]:
        """The derivatives of the state's parts, without history."""

    @abstractmethod
    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        """The same in one, with a graph to the state, for the Jacobian of an implicit method."""

    def __call__(self, t: Tensor, y: Tensor, in_quadrature: bool = True) -> Tensor:
        return torch.cat(self.parts(t, y, in_quadrature))

    def target(self, out: Tensor) -> Tensor:
        return out

    def into(self, target: Tensor, t: Tensor, y: Tensor, in_quadrature: bool = True) -> None:
        start = 0
        for part in self.parts(t, y, in_quadrature):
            target[start : start + len(part)].copy_(part)
            start += len(part)

    def vjp(self, t: Tensor, z: Tensor, a: Tensor, in_quadrature: bool) -> tuple[Tensor, Tensor]:
        """f(t, z) and -a^T df/dz, each [N]; a^T df/dtheta is kept where the point is ``in_quadrature``."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            dz = self.field(t, z)
        wanted = (z, *self.params) if in_quadrature else (z,)
        grads = torch.autograd.grad(dz, wanted, a, allow_unused=True) if dz.requires_grad else (None,) * len(wanted)
        self.integrand = joined(self.params, grads[1:]) if in_quadrature and self.params else None
        return dz.detach(), torch.zeros_like(z) if grads[0] is None else -grads[0]


class BackwardSolve(ABC):
    """dL/dy0 and, in ``integral``, dL/dtheta from dL/dys [rows, N]."""

    def __init__(
        self, gradient: str, problem: Problem, choices: GradientOptions, times: list[float], ys: Tensor
    ) -> None:
        self.gradient, self.problem, self.times, self.ys = gradient, problem, times, ys
        self.control, self.method = choices.control, problem.adjoint_method or problem.method
        self.integral = Integral(problem.params, self.control, choices.norm == "full")

    @abstractmethod
    def state(self, row: int, a: Tensor) -> Tensor:
        """The state to go on from at the output ``row``."""

    @abstractmethod
    def adjoint(self, state: Tensor) -> Tensor:
        """a [N] in the state that an output was reached with."""

    def run(self, field: AdjointField, cotangents: Tensor) -> Tensor:
        """dL/dy0 [N]."""
        check_solve(self.gradient, self.problem, field.field, self.ys)
        stops = [i for i, used in enumerate((cotangents != 0).any(dim=1).tolist()) if used and i < len(self.times)]
        if not stops:
            return torch.zeros_like(cotangents[0])
        last = stops.pop()
        a = cotangents[last]
        if last == 0:
            return a.clone()
        stepper = self.stepper(field, self.times[last], self.state(last, a))
        if self.integral.controlled and not self.method.internal_stepping:
            stepper.quadrature_ratio = lambda step: self.integral.try_on(step.quadrature)
        stats, there = self.problem.stats, self.problem.control
        attempts = stats.accepted + stats.rejected
        way = WayBack(self.gradient, attempts, len(stops), there, self.control, stepper.method.error_order)

        def on_step(step: Step, t_end: float) -> None:
            self.accumulate(field, step)
            way.watch(stepper.accepted + stepper.rejected - self.integral.limiting)

        try:
            for row in [i for i in reversed(stops) if i > 0] + [0]:
                stepper.advance(self.times[row], on_step)
                a = self.adjoint(stepper.y) + cotangents[row]
                if row > 0:
                    stepper.jump(self.state(row, a))
        except SolveError as error:
            raise type(error)(f"on the way back, gradient='{self.gradient}': {error}", error.t, error.step) from error
        finally:
            self.count_steps(stepper)
        return a

    def stepper(self, field: AdjointField, t: float, y: Tensor) -> Stepper:
        return Stepper(self.method.uncompiled, field, self.control, t, y)

    def accumulate(self, field: AdjointField, step: Step) -> None:
        """Add what an accepted step contributes to dL/dtheta."""
        if not self.problem.params:
            return
        step = step if step.quadrature is not None else with_quadrature(field, step)
        if not self.integral.controlled:
            self.integral.add(step.quadrature)
        elif self.method.internal_stepping:
            self.refine(field, step, HALVINGS)
        else:
            self.integral.take()

    def refine(self, field: AdjointField, step: Step, halvings: int) -> None:
        """The same for a step that cannot be tried again: its halves on the same continuous extension, and theirs."""
        if self.integral.try_on(step.quadrature) <= 1 or halvings == 0:
            self.integral.take()
            return
        for part in halves(step):
            self.refine(field, with_quadrature(field, part), halvings - 1)

    def count_steps(self, stepper: Stepper) -> None:
        stats = self.problem.stats
        stats.accepted_backward = (stats.accepted_backward or 0) + stepper.accepted
        stats.rejected_backward = (stats.rejected_backward or 0) + stepper.rejected


def halves(step: Step) -> list[Step]:
    """A step cut in two for what is integrated along it."""

    def half(start: float) -> Step:
        def interpolate(thetas: Sequence[float]) -> Tensor:
            return step.interpolate([start + theta / 2 for theta in thetas])

        return Step(step.t + start * step.h, step.h / 2, step.y, step.y1, step.error, interpolate)

    return [half(0.0), half(0.5)]
