"""The continuous adjoint of Chen et al. 2018: the state and its adjoint integrated backwards in one sweep.

    dz/dt = f(t, z),   da/dt = -a^T df/dz,   dL/dtheta = -int_{t1}^{t0} a^T df/dtheta dt        (equations 4 and 5)

The integral for theta does not act back on (z, a), so it is a quadrature beside the solve, outside its error norm: the
sum of the method's own weights b_i times the vjp at stage i, added up for accepted steps only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noderun.gradients.info import GradientInfo
from noderun.solvers.control import Control
from noderun.solvers.field import VectorField
from noderun.solvers.integrate import Problem, integrate
from noderun.solvers.method import Step
from noderun.solvers.state import Layout
from noderun.solvers.stepper import Stepper

INFO = GradientInfo(
    exact=False,
    held="the outputs only",
    source="Chen, Rubanova, Bettencourt, Duvenaud 2018",
    description="state and adjoint integrated backwards; memory independent of the number of steps",
)


def solve(control: Control, problem: Problem) -> Tensor:
    """ys [len(ts), N]; the backward pass solves with ``control``."""
    return Adjoint.apply(problem, control, problem.y0, *problem.params)


class AdjointField:
    """d(z, a)/dt on flat states [2 N]; ``integrand`` is a^T df/dtheta at the last point."""

    def __init__(self, field: VectorField, params: tuple[Tensor, ...]) -> None:
        self.field, self.params = field, params
        self.integrand: list[Tensor] | None = None
        self.factorizations = 0
        shapes, sizes = field.layout.shapes * 2, field.layout.sizes * 2
        self.layout = Layout(shapes, sizes, tuple, None, False)

    def __call__(self, t: Tensor, y: Tensor, weighted: bool = True) -> Tensor:
        return torch.cat(self.vjp(t, y, weighted))

    def into(self, out: Tensor, t: Tensor, y: Tensor, weighted: bool = True) -> None:
        for half, value in zip(out.chunk(2), self.vjp(t, y, weighted), strict=True):
            half.copy_(value)

    def vjp(self, t: Tensor, state: Tensor, weighted: bool) -> tuple[Tensor, Tensor]:
        """f(t, z) and -a^T df/dz, each [N]; a^T df/dtheta is kept where the point is ``weighted``."""
        z, a = state.chunk(2)
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            dz = self.field(t, z)
        wanted = (z, *self.params) if weighted else (z,)
        grads = torch.autograd.grad(dz, wanted, a, allow_unused=True) if dz.requires_grad else (None,) * len(wanted)
        full = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True)]
        self.integrand = full[1:] if weighted else None
        return dz.detach(), full[0].neg_()

    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        """The same with a graph to the state, for the Jacobian of an implicit method."""
        z, a = state.chunk(2)
        dz = self.field.linearize(t, z)
        (da,) = torch.autograd.grad(dz, z, a, create_graph=True, materialize_grads=True)
        return torch.cat((dz, -da))


class Adjoint(torch.autograd.Function):
    """Parameters are inputs, so that their gradients leave through autograd (and reach DDP's reducer)."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, control: Control, y0: Tensor, *params: Tensor) -> Tensor:
        ys = integrate(problem)
        ctx.problem, ctx.control = problem, control
        ctx.save_for_backward(ys)
        return ys

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("gradient='adjoint' can be differentiated once; use gradient='backprop' for more")
        (ys,) = ctx.saved_tensors
        with ctx.problem.field.autocast.outside():
            a, thetas = sweep(ctx.problem, ctx.control, ys, grads[0])
        return None, None, a, *thetas


def sweep(problem: Problem, control: Control, ys: Tensor, cotangents: Tensor) -> tuple[Tensor, list[Tensor]]:
    """dL/dy0 [N] and dL/dtheta from dL/dys [len(ts), N], in one pass from the last output time to the first."""
    ts, field = problem.readout.times, problem.field
    thetas = [torch.zeros_like(p) for p in problem.params]
    stops = [i for i, used in enumerate((cotangents != 0).any(dim=1).tolist()) if used or i == 0]

    def accumulate(step: Step, t_end: float) -> None:
        for weight, integrand in step.quadrature:
            if integrand:
                torch._foreach_add_(thetas, integrand, alpha=-weight)

    before = field.nfe
    last = stops.pop()
    a = cotangents[last]
    stepper = Stepper(problem.method, AdjointField(field, problem.params), control, ts[last], torch.cat([ys[last], a]))
    for i in reversed(stops):
        stepper.advance(ts[i], accumulate)
        a = stepper.y.chunk(2)[1] + cotangents[i]
        stepper.jump(torch.cat([ys[i], a]))
    stats = problem.stats
    stats.nfe_backward = (stats.nfe_backward or 0) + field.nfe - before
    stats.accepted_backward = (stats.accepted_backward or 0) + stepper.accepted
    stats.rejected_backward = (stats.rejected_backward or 0) + stepper.rejected
    return a, thetas
