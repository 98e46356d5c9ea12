"""One solve backwards in time from the last output to the first, which the continuous adjoints share.

With z the state, a = dL/dz and theta the parameters (Chen et al. 2018, equations 4 and 5):

    da/dt = -a^T df/dz,    dL/dtheta = -int_{t1}^{t0} a^T df/dtheta dt

At each output its cotangent is added to a. The integral for theta does not act back on a, so it is a quadrature beside
the solve: the method's own weights times the vjp at its stages, or Gauss's formula on the step's continuous extension.
Its error counts in the step size control, see ``ParamIntegral``.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.gradients.field_checks import check_field_unchanged
from noderun.ode.gradients.gradient import CustomBackward
from noderun.ode.gradients.integral import ParamIntegral, joined
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.errors import SolveError
from noderun.ode.solvers.field import Integrand, VectorField
from noderun.ode.solvers.implicit import with_quadrature
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.method import Method, Step
from noderun.ode.solvers.per_sample.problem import SampleProblem
from noderun.ode.solvers.splitting import Splitting
from noderun.ode.solvers.state import Layout
from noderun.ode.solvers.stepper import Stepper

HALVINGS = 12  # of a step whose integral is not accurate enough, if the step itself cannot be tried again
FACTOR, MARGIN = 5, 50  # a warning is due at so many times the forward attempts, and so many more


@dataclass(frozen=True)
class ContinuousGradient(CustomBackward):
    """What ``Adjoint`` and ``Interpolated`` share: the error that controls the steps of the backward solve."""

    norm: str = "full"

    def __post_init__(self) -> None:
        if self.norm not in ("full", "seminorm"):
            raise ValueError(f"gradient norm is '{self.norm}'; it is 'full' or 'seminorm'")

    def refusal(self, method: Method) -> str | None:
        if isinstance(method, Splitting):
            return (
                f"solver '{method.name}' splits a state (q, p), and the adjoint's state is not such a pair: "
                "use gradient='checkpointed'"
            )
        return super().refusal(method)


class AdjointField(ABC):
    """The vector field of a backward solve; ``integrand`` is a^T df/dtheta at the last point."""

    has_quadrature = True
    vectors = 1  # of the size of z in the state

    def __init__(self, field: VectorField, params: tuple[Tensor, ...]) -> None:
        self.field, self.params = field, params
        self.integrand: Integrand | None = None
        self.factorizations, self.bounds = 0, field.bounds
        shapes, sizes = field.layout.shapes * self.vectors, field.layout.sizes * self.vectors
        self.layout = Layout(shapes, sizes, tuple, None, False)

    @abstractmethod
    def parts(self, t: Tensor, state: Tensor, in_quadrature: bool) -> tuple[Tensor, ...]:
        """The derivatives of the state's parts, detached."""

    @abstractmethod
    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        """The derivative of the whole state with a graph to it, for the Jacobian of an implicit method."""

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
        """f(t, z) and -a^T df/dz, each [N]; a^T df/dtheta is kept if the point counts in the integral."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            dz = self.field(t, z)
        wanted = (z, *self.params) if in_quadrature else (z,)
        grads = torch.autograd.grad(dz, wanted, a, allow_unused=True) if dz.requires_grad else (None,) * len(wanted)
        self.integrand = joined(self.params, grads[1:]) if in_quadrature and self.params else None
        return dz.detach(), torch.zeros_like(z) if grads[0] is None else -grads[0]


class BackwardSolve(ABC):
    """dL/dy0 and, in ``integral``, dL/dtheta from dL/dys [rows, N]."""

    def __init__(self, gradient: ContinuousGradient, problem: Problem, times: list[float], ys: Tensor) -> None:
        self.gradient, self.problem, self.times, self.ys = gradient.name, problem, times, ys
        self.control, self.method = problem.backward, problem.adjoint_method or problem.method
        self.integral = ParamIntegral(problem.params, self.control, gradient.norm == "full")

    @abstractmethod
    def state(self, row: int, a: Tensor) -> Tensor:
        """The state to continue from at the output ``row``."""

    @abstractmethod
    def adjoint(self, state: Tensor) -> Tensor:
        """a [N] in the state with which an output was reached."""

    def run(self, field: AdjointField, cotangents: Tensor) -> Tensor:
        """dL/dy0 [N]; SolveError if the backward solve fails."""
        check_field_unchanged(self.gradient, self.problem, field.field, self.ys)
        stops = [i for i, used in enumerate((cotangents != 0).any(dim=1).tolist()) if used and i < len(self.times)]
        if not stops:
            return torch.zeros_like(cotangents[0])
        last = stops.pop()
        a = cotangents[last]
        if last == 0:
            return a.clone()
        stepper = self.stepper(field, self.times[last], self.state(last, a))
        if self.integral.controlled and not self.method.internal_stepping:
            stepper.quadrature_ratio = lambda step: self.integral.try_step(step.quadrature)
        stats = self.problem.stats
        limit = StepCountLimit(
            self.gradient, stats.accepted + stats.rejected, len(stops), self.problem, stepper.method.error_order
        )

        def on_step(step: Step, t_end: float) -> None:
            self.accumulate(field, step)
            limit.check(stepper.accepted + stepper.rejected - self.integral.limiting)

        try:
            for row in [i for i in reversed(stops) if i > 0] + [0]:
                stepper.advance(self.times[row], on_step)
                a = self.adjoint(stepper.y) + cotangents[row]
                if row > 0:
                    stepper.jump(self.state(row, a))
        except SolveError as error:
            message = f"in the backward pass, gradient='{self.gradient}': {error}"
            raise type(error)(message, error.t, error.step) from error
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
            self.integral.accept()

    def refine(self, field: AdjointField, step: Step, halvings: int) -> None:
        """``accumulate`` for a step that cannot be tried again: halve it until its integral is accurate enough."""
        if self.integral.try_step(step.quadrature) <= 1 or halvings == 0:
            self.integral.accept()
            return
        for part in halves(step):
            self.refine(field, with_quadrature(field, part), halvings - 1)

    def count_steps(self, stepper: Stepper) -> None:
        stats = self.problem.stats
        stats.accepted_backward = (stats.accepted_backward or 0) + stepper.accepted
        stats.rejected_backward = (stats.rejected_backward or 0) + stepper.rejected


def halves(step: Step) -> list[Step]:
    """A step cut in two, for what is integrated along it."""

    def half(start: float) -> Step:
        def interpolate(thetas: Sequence[float]) -> Tensor:
            return step.interpolate([start + theta / 2 for theta in thetas])

        return Step(step.t + start * step.h, step.h / 2, step.y, step.y1, step.error, interpolate)

    return [half(0.0), half(0.5)]


class StepCountLimit:
    """Warns once if a backward solve takes many more steps than the forward solve did.

    The state is then unstable when integrated backwards, as every stiff one is, and the solve may be about to fail.
    """

    def __init__(self, gradient: str, forward: int, outputs: int, problem: Problem | SampleProblem, order: int) -> None:
        self.gradient, self.forward = gradient, forward
        tighter = times_tighter(problem.control, problem.backward)
        self.limit = FACTOR * (forward + outputs) * tighter ** (1 / (order + 1)) + MARGIN

    def check(self, attempts: int) -> None:
        if attempts <= self.limit:
            return
        self.limit = float("inf")
        warnings.warn(
            f"gradient='{self.gradient}': the backward solve has taken {attempts} steps so far, the forward solve "
            f"{self.forward}: backwards in time the solution is unstable or stiff, or f has kinks (ReLU); use "
            "gradient='checkpointed', which repeats the forward steps, or 'interpolated', which does not integrate the "
            "state backwards",
            RuntimeWarning,
            stacklevel=2,
        )


def times_tighter(forward: StepOptions, backward: StepOptions) -> float:
    """How many times smaller the tolerance of the backward solve is, at least 1."""
    if isinstance(forward.rtol, float) and isinstance(backward.rtol, float) and backward.rtol > 0:
        return max(1.0, forward.rtol / backward.rtol)
    return 1.0
