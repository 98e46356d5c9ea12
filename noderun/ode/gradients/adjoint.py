"""The continuous adjoint of Chen et al. 2018: the state and its adjoint integrated backwards in one sweep.

With ``norm=full`` the step size follows the error of z, of a and of the integral for theta, as in 2018; with
``norm=seminorm`` that of (z, a) alone (Kidger, Chen, Lyons 2021; CVODES' default), which a field whose dependence on
theta varies faster than its solution makes wrong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.backward_solve import AdjointField, BackwardSolve
from noderun.ode.gradients.dependence import again, refuse_second
from noderun.ode.gradients.info import GradientInfo, GradientOptions
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.integrate import Problem, integrate
from noderun.ode.solvers.stepper import Stepper

INFO = GradientInfo(
    exact=False,
    held="the outputs only",
    source="Chen, Rubanova, Bettencourt, Duvenaud 2018; Kidger, Chen, Lyons 2021 (norm=seminorm)",
    description="state and adjoint integrated backwards; memory independent of the number of steps",
    options=("norm",),
)


def solve(backward: GradientOptions, problem: Problem) -> Tensor:
    """ys [rows, N]."""
    return Adjoint.apply(problem, backward, problem.y0, *problem.params)


class Adjoint(torch.autograd.Function):
    """Parameters are inputs, so that their gradients leave through autograd (and reach DDP's reducer)."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, backward: GradientOptions, y0: Tensor, *params: Tensor) -> Tensor:
        ys = integrate(problem)
        ctx.problem, ctx.choices = problem, backward
        ctx.times = list(problem.outputs.times)
        ctx.save_for_backward(ys, *params)
        return problem.shaped(ys)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second("adjoint")
        ys, *_ = ctx.saved_tensors
        problem: Problem = ctx.problem
        with again(problem) as field:
            sweep = StateSweep("adjoint", problem, ctx.choices, ctx.times, ys)
            a = sweep.run(StateField("adjoint", field, problem.params), problem.flat(grads[0]))
        return None, None, a, *sweep.integral.gradients()


class StateField(AdjointField):
    """d(z, a)/dt on [2 N]."""

    def __init__(self, gradient: str, field: VectorField, params: tuple[Tensor, ...]) -> None:
        super().__init__(gradient, field, params, 2)

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


class StateSweep(BackwardSolve):
    """The state is (z, a); z starts anew from the solution at every output."""

    def state(self, row: int, a: Tensor) -> Tensor:
        return torch.cat([self.ys[row], a])

    def adjoint(self, state: Tensor) -> Tensor:
        return state.chunk(2)[1]

    def stepper(self, field: AdjointField, t: float, y: Tensor) -> Stepper:
        if not self.method.compiles:
            return super().stepper(field, t, y)
        from noderun.ode.gradients.compiled import AdjointStepper, named_dependencies  # as for checkpointed

        named = named_dependencies(self.problem)
        if named is None:
            return super().stepper(field, t, y)
        return AdjointStepper(self.method, field, self.control, t, y, self.integral, named)
