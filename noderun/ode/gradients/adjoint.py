"""The continuous adjoint of Chen et al. 2018: the state and its adjoint, integrated backwards together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.gradients import per_sample_adjoint
from noderun.ode.gradients.backward_solve import AdjointField, BackwardSolve, ContinuousGradient
from noderun.ode.gradients.parameters import backward_field
from noderun.ode.gradients.solve_function import Gradients, Recorded
from noderun.ode.solvers.integrate import Problem, integrate
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.per_sample.problem import SampleProblem
from noderun.ode.solvers.scipy import Scipy
from noderun.ode.solvers.stepper import Stepper


@dataclass(frozen=True)
class Adjoint(ContinuousGradient):
    """The adjoint equation solved backwards in time, holding the outputs only; Chen et al. 2018.

    Do not use it unless memory must not grow with the number of steps, or the solver is scipy's:

    - its gradient is not the gradient of the numbers that the forward solve returned. It is that of the continuous
      problem, and its error depends on a second tolerance (``gradient_rtol``, ``gradient_atol``);
    - it integrates the state backwards as well. A solution that is stable forwards (stiff, dissipative) is unstable
      backwards, so the state drifts from the forward solution, the steps become small and the solve can fail;
    - it is not cheaper. A backward solve takes about as many evaluations of f as the forward solve, each with a vjp,
      and one restart per output that the loss uses. ``Checkpointed`` costs about the same and is exact.

    ``norm`` is the error that controls the backward steps. "full" controls z, a and the integral for the parameters, as
    in 2018. "seminorm" leaves that integral out (Kidger, Chen, Lyons 2021; CVODES' default): fewer steps, and a wrong
    gradient if df/dtheta varies faster than the solution does.
    """

    name = "adjoint"
    exact = False
    memory = "the outputs only"
    source = "Chen, Rubanova, Bettencourt, Duvenaud 2018; Kidger, Chen, Lyons 2021 (norm=seminorm)"
    description = "state and adjoint integrated backwards; memory independent of the number of steps"

    def refusal(self, method: Method) -> str | None:
        return None if isinstance(method, Scipy) else super().refusal(method)

    def refusal_per_sample(self) -> None:
        return None

    def solve_per_sample(self, problem: SampleProblem) -> Tensor:
        return per_sample_adjoint.adjoint(problem, self.norm == "full")

    def record(self, problem: Problem) -> Recorded:
        ys = integrate(problem)
        return problem.shaped(ys), (ys, *problem.params), list(problem.outputs.times)

    def pull_back(self, problem: Problem, saved: list[Tensor], times: list[float], ys_grad: Tensor) -> Gradients:
        with backward_field(problem) as field:
            solve = AdjointSolve(self, problem, times, saved[0])
            a = solve.run(StateAdjointField(field, problem.params), problem.flat(ys_grad))
        return a, solve.integral.gradients()


class StateAdjointField(AdjointField):
    """d(z, a)/dt on [2 N]; Chen et al. 2018, equations 1 and 4."""

    vectors = 2

    def parts(self, t: Tensor, state: Tensor, in_quadrature: bool) -> tuple[Tensor, ...]:
        z, a = state.chunk(2)
        return self.vjp(t, z, a, in_quadrature)

    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        z, a = state.chunk(2)
        dz = self.field.linearize(t, z)
        if not dz.requires_grad:  # f does not depend on the state
            return torch.cat((dz, torch.zeros_like(a)))
        (da,) = torch.autograd.grad(dz, z, a, create_graph=True, materialize_grads=True)
        return torch.cat((dz, -da))


class AdjointSolve(BackwardSolve):
    """The state is (z, a); at every output z is set to the forward solution again."""

    def state(self, row: int, a: Tensor) -> Tensor:
        return torch.cat([self.ys[row], a])

    def adjoint(self, state: Tensor) -> Tensor:
        return state.chunk(2)[1]

    def stepper(self, field: AdjointField, t: float, y: Tensor) -> Stepper:
        if not self.method.compiles:
            return super().stepper(field, t, y)
        from noderun.ode.gradients.compiled import AdjointStepper, params_by_name  # of graphs alone

        named = params_by_name(self.problem)
        if named is None:
            return super().stepper(field, t, y)
        return AdjointStepper(self.integral, self.method, field, self.control, t, y, params=named)
