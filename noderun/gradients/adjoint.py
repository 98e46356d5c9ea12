"""The continuous adjoint of Chen et al. 2018: the state and its adjoint integrated backwards in one sweep.

With ``norm=state`` theta is a quadrature outside the error norm, so that the step size follows (z, a) alone (the
"seminorm" of Kidger, Chen, Lyons 2021, and CVODES' default); with ``norm=full`` it is part of the error-controlled
state, as in 2018.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noderun.gradients.dependence import again, refuse_second
from noderun.gradients.info import Backward, GradientInfo
from noderun.gradients.sweep import AdjointField, Sweep
from noderun.solvers.control import Control, rms
from noderun.solvers.field import VectorField
from noderun.solvers.integrate import Problem, integrate
from noderun.solvers.stepper import Stepper

INFO = GradientInfo(
    exact=False,
    held="the outputs only",
    source="Chen, Rubanova, Bettencourt, Duvenaud 2018; Kidger, Chen, Lyons 2021 (norm=state)",
    description="state and adjoint integrated backwards; memory independent of the number of steps",
    options=("norm",),
)


def solve(backward: Backward, problem: Problem) -> Tensor:
    """ys [rows, N]."""
    return Adjoint.apply(problem, backward, problem.y0, *problem.params)


class Adjoint(torch.autograd.Function):
    """Parameters are inputs, so that their gradients leave through autograd (and reach DDP's reducer)."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, backward: Backward, y0: Tensor, *params: Tensor) -> Tensor:
        ys = integrate(problem)
        ctx.problem, ctx.choices = problem, backward
        ctx.times = list(problem.readout.times)
        ctx.save_for_backward(ys, *params)
        return ys

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second("adjoint")
        ys, *_ = ctx.saved_tensors
        problem: Problem = ctx.problem
        kind = FullSweep if ctx.choices.norm == "full" else StateSweep
        with again(problem) as field:
            sweep = kind("adjoint", problem, ctx.choices.control, ctx.times, ys)
            a = sweep.run(sweep.field(field), grads[0])
        return None, None, a, *sweep.thetas


class StateField(AdjointField):
    """d(z, a)/dt on [2 N]."""

    def __init__(self, gradient: str, field: VectorField, params: tuple[Tensor, ...]) -> None:
        super().__init__(gradient, field, params, 2)

    def parts(self, t: Tensor, state: Tensor, weighted: bool) -> tuple[Tensor, ...]:
        z, a = state.chunk(2)
        return self.vjp(t, z, a, weighted)

    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        z, a = state.chunk(2)
        dz = self.field.linearize(t, z)
        if not dz.requires_grad:  # f does not depend on the state
            return torch.cat((dz, torch.zeros_like(a)))
        (da,) = torch.autograd.grad(dz, z, a, create_graph=True, materialize_grads=True)
        return torch.cat((dz, -da))


class StateSweep(Sweep):
    """The state is (z, a); z starts anew from the solution at every output."""

    def field(self, field: VectorField) -> AdjointField:
        return StateField(self.gradient, field, self.problem.params)

    def state(self, row: int, a: Tensor) -> Tensor:
        return torch.cat([self.ys[row], a])

    def adjoint(self, state: Tensor) -> Tensor:
        return state.chunk(2)[1]

    def stepper(self, field: AdjointField, t: float, y: Tensor) -> Stepper:
        method = self.problem.adjoint_method or self.problem.method
        if not method.compiles:
            return super().stepper(field, t, y)
        from noderun.gradients.compiled import AdjointStepper, named_dependencies  # as for checkpointed

        named = named_dependencies(self.problem)
        if named is None:
            return super().stepper(field, t, y)
        return AdjointStepper(method, field, self.control, t, y, params=named)


class FullField(AdjointField):
    """d(z, a, dL/dtheta)/dt on [2 N + P]."""

    weighs = False

    def __init__(self, gradient: str, field: VectorField, params: tuple[Tensor, ...]) -> None:
        super().__init__(gradient, field, params, 2)
        self.size = sum(self.layout.sizes)
        shapes = (*self.layout.shapes, *(p.shape for p in params))
        self.layout = replace(self.layout, shapes=shapes, sizes=(*self.layout.sizes, *(p.numel() for p in params)))

    def parts(self, t: Tensor, state: Tensor, weighted: bool) -> tuple[Tensor, ...]:
        z, a = state[: self.size].chunk(2)
        dz, da = self.vjp(t, z, a, True)
        shares, self.integrand = self.integrand or [], None
        return dz, da, *(share.reshape(-1).to(state.dtype).neg_() for share in shares)

    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        z, a = state[: self.size].chunk(2)
        dz = self.field.linearize(t, z)
        wanted = (z, *self.params)
        grads = torch.autograd.grad(dz, wanted, a, create_graph=True, materialize_grads=True, allow_unused=True)
        return torch.cat((dz, *(-g.reshape(-1) for g in grads)))


class FullSweep(Sweep):
    """The state is (z, a, dL/dtheta), and the error norm the largest rms among the three."""

    def __init__(self, gradient: str, problem: Problem, control: Control, times: list[float], ys: Tensor) -> None:
        n, self.sizes = ys.shape[1], [p.numel() for p in problem.params]

        def norm(v: Tensor) -> Tensor:
            return torch.stack([control.norm(v[:n]), control.norm(v[n : 2 * n]), rms(v[2 * n :])]).max()

        def filled(tolerance: float | Tensor) -> float | Tensor:
            if not isinstance(tolerance, Tensor):
                return tolerance
            return torch.cat([tolerance, tolerance, tolerance.min().expand(sum(self.sizes))])

        whole = replace(control, rtol=filled(control.rtol), atol=filled(control.atol), norm=norm)
        super().__init__(gradient, problem, whole, times, ys)
        self.rest = ys.new_zeros(sum(self.sizes))

    def field(self, field: VectorField) -> AdjointField:
        return FullField(self.gradient, field, self.problem.params)

    def state(self, row: int, a: Tensor) -> Tensor:
        return torch.cat([self.ys[row], a, self.rest])

    def adjoint(self, state: Tensor) -> Tensor:
        n = self.ys.shape[1]
        self.rest = state[2 * n :]
        parts = zip(self.thetas, self.rest.split(self.sizes), strict=True)
        self.thetas = [part.reshape(theta.shape).to(theta.dtype) for theta, part in parts]
        return state[n : 2 * n]

    def accumulate(self, field: AdjointField, step: Any) -> None:
        """Nothing: the integral is part of the state."""
