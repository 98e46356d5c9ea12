"""The adjoint along the stored dense forward solution: z is read off, only a is integrated backwards.

Nothing drifts where the dynamics cannot be integrated backwards, and the backward field is linear in a. Per accepted
step its start and enough interior values are held to be as accurate as the method. Serban, Hindmarsh 2005 (CVODES);
Rackauckas et al. 2020 (InterpolatingAdjoint, GaussAdjoint).
"""

from __future__ import annotations

import bisect
import math
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.backward_solve import AdjointField, BackwardSolve
from noderun.ode.gradients.dependence import again, refuse_second
from noderun.ode.gradients.info import GradientInfo, GradientOptions
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate

INFO = GradientInfo(
    exact=False,
    held="the dense forward solution: as many states a step as the method's order",
    source="Serban, Hindmarsh 2005; Rackauckas et al. 2020",
    description="adjoint along the stored forward solution; no drift of the state on the way back",
    options=("norm",),
)


def solve(backward: GradientOptions, problem: Problem) -> Tensor:
    """ys [rows, N]."""
    return Interpolated.apply(problem, backward, problem.y0, *problem.params)


class Path:
    """z(t) through the accepted steps: on each a polynomial through its two ends and ``fractions`` in between."""

    def __init__(self, order: int) -> None:
        degree = max(3, order)
        # Chebyshev points of the second kind keep Lagrange's formula well conditioned.
        self.nodes = [(1 - math.cos(math.pi * i / degree)) / 2 for i in range(degree + 1)]
        self.spans: list[tuple[float, float]] = []  # t, h
        self.starts: list[Tensor] = []  # [N], and the last end behind them
        self.insides: list[Tensor] = []  # [degree - 1, N]

    def add(self, taken: AcceptedStep) -> None:
        step = taken.step
        self.insides.append(step.interpolate(self.nodes[1:-1]))
        del self.starts[len(self.spans) :]
        self.spans.append((step.t, step.h))
        self.starts.extend((step.y, step.y1))

    def __call__(self, t: float) -> Tensor:
        sign = 1.0 if self.spans[0][1] > 0 else -1.0
        i = max(0, bisect.bisect_right(self.spans, sign * t, key=lambda span: sign * span[0]) - 1)
        start, h = self.spans[i]
        first, *inside, last = lagrange(self.nodes, (t - start) / h)
        weights = torch.tensor(inside, dtype=self.starts[0].dtype).to(self.starts[0].device)
        ends = torch.add(self.starts[i] * first, self.starts[i + 1], alpha=last)
        return torch.addmv(ends, self.insides[i].t(), weights)


def lagrange(nodes: list[float], x: float) -> list[float]:
    """The weights of the values at ``nodes`` in the polynomial through them at x."""
    weights = []
    for i, node in enumerate(nodes):
        others = [other for j, other in enumerate(nodes) if j != i]
        weights.append(math.prod((x - other) / (node - other) for other in others))
    return weights


class Interpolated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, backward: GradientOptions, y0: Tensor, *params: Tensor) -> Tensor:
        path = Path(problem.method.order)
        ys = integrate(problem, path.add)
        ctx.problem, ctx.choices = problem, backward
        ctx.times, ctx.spans = list(problem.outputs.times), path.spans
        ctx.save_for_backward(ys, *params, *path.starts, *path.insides)
        return problem.shaped(ys)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second("interpolated")
        problem: Problem = ctx.problem
        ys, *tensors = ctx.saved_tensors
        path = Path(problem.method.order)
        path.spans, tensors = ctx.spans, tensors[len(problem.params) :]
        path.starts, path.insides = tensors[: len(path.spans) + 1], tensors[len(path.spans) + 1 :]
        with again(problem) as field:
            sweep = InterpolatedSolve("interpolated", problem, ctx.choices, ctx.times, ys)
            a = sweep.run(InterpolatedField("interpolated", field, problem.params, path), problem.flat(grads[0]))
        return None, None, a, *sweep.integral.gradients()


class InterpolatedField(AdjointField):
    """da/dt on [N] along the path."""

    def __init__(self, gradient: str, field: VectorField, params: tuple[Tensor, ...], path: Path) -> None:
        super().__init__(gradient, field, params, 1)
        self.path = path

    def parts(self, t: Tensor, state: Tensor, in_quadrature: bool) -> tuple[Tensor, ...]:
        return self.vjp(t, self.path(t.item()), state, in_quadrature)[1:]

    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        z = self.path(t.item()).requires_grad_()
        if t.requires_grad:  # of Rosenbrock methods: the path moves with t, by f
            with torch.no_grad():
                slope = self.field(t, z)
            z = z + slope * (t - t.detach())
        dz = self.field.linearize(t, z)
        if not dz.requires_grad:
            return torch.zeros_like(state)
        (da,) = torch.autograd.grad(dz, z, state, create_graph=True, materialize_grads=True)
        return -da


class InterpolatedSolve(BackwardSolve):
    """The state is a."""

    def state(self, row: int, a: Tensor) -> Tensor:
        return a

    def adjoint(self, state: Tensor) -> Tensor:
        return state
