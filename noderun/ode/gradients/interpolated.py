"""The adjoint along the stored dense forward solution: z is read off it, and only a is integrated backwards.

Serban, Hindmarsh 2005 (CVODES); Rackauckas et al. 2020 (InterpolatingAdjoint, GaussAdjoint).
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.backward_solve import AdjointField, BackwardSolve, ContinuousGradient
from noderun.ode.gradients.parameters import backward_field
from noderun.ode.gradients.solve_function import Gradients, Recorded
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate


@dataclass(frozen=True)
class Interpolated(ContinuousGradient):
    """The adjoint equation solved along the stored forward solution.

    The state is not integrated backwards, so it cannot drift from the forward solution, and the backward equation is
    linear in a. Each accepted step stores its start and enough values inside to be as accurate as the method. As with
    ``Adjoint``, the gradient is that of the continuous problem to the tolerance of the backward solve, not the exact
    gradient of the discrete solve.

    ``norm`` is the error that controls the backward steps: "full" (a and the integral for the parameters) or
    "seminorm" (a alone, see ``Adjoint``).
    """

    name = "interpolated"
    exact = False
    memory = "the dense forward solution: as many states per step as the method's order"
    source = "Serban, Hindmarsh 2005; Rackauckas et al. 2020"
    description = "adjoint along the stored forward solution; no drift of the state in the backward pass"

    def record(self, problem: Problem) -> Recorded:
        path = StoredTrajectory(problem.method.order)
        ys = integrate(problem, path.add, inside=True)
        saved = (ys, *problem.params, *path.starts, *path.insides)
        return problem.shaped(ys), saved, (list(problem.outputs.times), path.spans)

    def pull_back(self, problem: Problem, saved: list[Tensor], kept: Any, ys_grad: Tensor) -> Gradients:
        (ys, *tensors), (times, spans) = saved, kept
        tensors = tensors[len(problem.params) :]
        path = StoredTrajectory(problem.method.order)
        path.spans, path.starts, path.insides = spans, tensors[: len(spans) + 1], tensors[len(spans) + 1 :]
        with backward_field(problem) as field:
            solve = InterpolatedSolve(self, problem, times, ys)
            a = solve.run(InterpolatedField(field, problem.params, path), problem.flat(ys_grad))
        return a, solve.integral.gradients()


class StoredTrajectory:
    """z(t) along the accepted steps: on each step the polynomial through its ends and the nodes between them."""

    def __init__(self, order: int) -> None:
        degree = max(3, order)
        # Chebyshev points of the second kind keep Lagrange's formula well conditioned.
        self.nodes = [(1 - math.cos(math.pi * i / degree)) / 2 for i in range(degree + 1)]
        self.spans: list[tuple[float, float]] = []  # t, h
        self.starts: list[Tensor] = []  # z [N] at each step's start, and at the end of the last step
        self.insides: list[Tensor] = []  # [degree - 1, N]

    def add(self, taken: AcceptedStep) -> None:
        """Store an accepted step; its start is the end of the step before."""
        step = taken.step
        self.insides.append(step.interpolate(self.nodes[1:-1]))
        del self.starts[len(self.spans) :]
        self.spans.append((step.t, step.h))
        self.starts.extend((step.y, step.y1))

    def __call__(self, t: float) -> Tensor:
        """z(t) [N]."""
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


class InterpolatedField(AdjointField):
    """da/dt on [N] along the stored trajectory; Chen et al. 2018, equation 4."""

    def __init__(self, field: VectorField, params: tuple[Tensor, ...], path: StoredTrajectory) -> None:
        super().__init__(field, params)
        self.path = path

    def parts(self, t: Tensor, state: Tensor, in_quadrature: bool) -> tuple[Tensor, ...]:
        return self.vjp(t, self.path(t.item()), state, in_quadrature)[1:]

    def linearize(self, t: Tensor, state: Tensor) -> Tensor:
        z = self.path(t.item()).requires_grad_()
        if t.requires_grad:  # Rosenbrock methods differentiate by t, and z moves with t by f
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
