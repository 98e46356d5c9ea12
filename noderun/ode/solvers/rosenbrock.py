"""Rosenbrock methods: no iteration, one linear system per stage with the exact J and df/dt; Hairer, Wanner II, IV.7.

    (I - h gamma J) u_i = h gamma f(t + alpha_i h, y + sum_j a_ij u_j) + gamma sum_j c_ij u_j + gamma gamma_i h^2 df/dt
    y1 = y + sum_i m_i u_i                                                                          (IV.7.25 and 7.26)

J enters the solution itself, so its derivative is part of the gradient: autograd passes through it, also twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.solvers.errors import NewtonDivergence
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.implicit import ImplicitMethod, Work, combine
from noderun.ode.solvers.jacobian import Jacobian
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.stage_systems import Factors, coupled
from noderun.ode.solvers.tableau import Row
from noderun.ode.solvers.times import stage_times


@dataclass(frozen=True)
class RosenbrockTableau:
    """``dense[i]``: coefficients of theta, theta^2, ... by which u_i enters y(t + theta h); ``slopes``: the gamma_i."""

    order: int
    gamma: float
    alpha: Row
    slopes: Row
    a: tuple[Row, ...]
    c: tuple[Row, ...]
    m: Row
    error: Row
    error_order: int
    dense: tuple[Row, ...]
    fsal: bool = False  # the last stage evaluates f at the step's end


class RosenbrockWork(Work):
    """J and df/dt at the current state, and the factors for one h."""

    def __init__(self, y: Tensor) -> None:
        super().__init__(y)
        self.jacobian: Jacobian | None = None
        self.matrix: Tensor | None = None
        self.rate: Tensor | None = None
        self.factors: tuple[float, Factors] | None = None

    def forget(self) -> None:
        self.matrix = self.rate = self.factors = None


class Rosenbrock(ImplicitMethod[RosenbrockWork]):
    uses_newton = False

    def __init__(self, name: str, tableau: RosenbrockTableau, source: str, description: str) -> None:
        super().__init__(name, tableau.order, tableau.error_order, source, description)
        self.tableau = tableau

    def start(self, y: Tensor) -> RosenbrockWork:
        return RosenbrockWork(y)

    def attempt(self, field: Field, t: float, y: Tensor, h: float, work: RosenbrockWork, estimate: bool) -> Step:
        tableau = self.tableau
        with torch.set_grad_enabled(work.recording):
            us = self.stages(field, t, y, h, work)
            y1 = combine(y, [tableau.m], us)[0]
        if not estimate and not torch.isfinite(y1).all():
            raise NewtonDivergence("the linear system of a Rosenbrock step is singular", t, 0)
        with torch.no_grad():
            error = combine(torch.zeros_like(y), [tableau.error], us)[0] if estimate else None

        def interpolate(thetas: Sequence[float]) -> Tensor:
            return combine(y, [[value(row, theta) for row in tableau.dense] for theta in thetas], us)

        return Step(t, h, y, y1, error, interpolate)

    def stages(self, field: Field, t: float, y: Tensor, h: float, work: RosenbrockWork) -> list[Tensor]:
        """The u_i [N]."""
        tableau, us = self.tableau, list[Tensor]()
        slope, hg = self.slope(field, t, y, work), h * tableau.gamma
        times = stage_times(t, h, tableau.alpha, y, field.bounds)
        factors = self.factors(field, t, y, h, work)
        assert work.rate is not None and work.jacobian is not None
        for i, (row, time) in enumerate(zip(tableau.a, times, strict=True)):
            if i > 0:
                slope = field(time, combine(y, [row], us)[0], False)
            right = hg * slope + tableau.gamma * tableau.slopes[i] * h**2 * work.rate
            if i > 0:
                right = combine(right, [[tableau.gamma * c for c in tableau.c[i]]], us)[0]
            blocks = work.jacobian.blocks
            solved = torch.linalg.lu_solve(*factors, blocks.split(right).unsqueeze(-1))
            us.append(blocks.join(solved.squeeze(-1)))
        work.end = slope if tableau.fsal else None
        return us

    def factors(self, field: Field, t: float, y: Tensor, h: float, work: RosenbrockWork) -> Factors:
        """LU of I - h gamma J [B, d, d] at the step's start."""
        if work.jacobian is None:
            work.jacobian = Jacobian(field.layout, y)
        if work.matrix is None:
            self.linearize(field, t, y, h, work)
            assert work.matrix is not None
        if work.factors is None or work.factors[0] != h:
            field.factorizations += 1
            a = torch.tensor([[h * self.tableau.gamma]], dtype=y.dtype, device=y.device)
            work.factors = (h, coupled(a, [work.matrix]))
        return work.factors[1]

    def linearize(self, field: Field, t: float, y: Tensor, h: float, work: RosenbrockWork) -> None:
        """J and df/dt at (t, y)."""
        assert work.jacobian is not None
        graph = work.recording
        with torch.enable_grad():
            time = stage_times(t, 0.0, (0.0,), y, field.bounds)[0].requires_grad_()
            point = y if graph and y.requires_grad else y.detach().requires_grad_()
            value = field.linearize(time, point)
            work.matrix = work.jacobian.of(value, point, graph)
            work.rate = time_derivative(value, time, graph)
        if work.rate is None:
            work.rate = self.difference(field, t, y, h, work)

    def difference(self, field: Field, t: float, y: Tensor, h: float, work: RosenbrockWork) -> Tensor:
        """df/dt [N] by a forward difference: exactly 0 if f does not use t, right if autograd cannot see t."""
        delta = min(torch.finfo(y.dtype).eps ** 0.5 * max(abs(t), abs(h)), abs(h))  # the step's end is inside
        now, later = stage_times(t, delta if h > 0 else -delta, (0.0, 1.0), y, field.bounds)
        change = field(later, y, False) - self.slope(field, t, y, work)
        return change / torch.where(later == now, 1.0, later - now)  # equal: h is below the resolution of t

    def accept(self, work: RosenbrockWork) -> None:
        super().accept(work)
        work.forget()

    def restart(self, work: RosenbrockWork) -> None:
        super().restart(work)
        work.forget()


def time_derivative(value: Tensor, t: Tensor, graph: bool) -> Tensor | None:
    """df/dt, of value's shape, the derivative of v^T df/dt by v; None if f's graph does not reach t ([] or [b])."""
    if not value.requires_grad:
        return None
    v = torch.zeros_like(value, requires_grad=True)
    (product,) = torch.autograd.grad(value, t, v, create_graph=True, allow_unused=True)
    if product is None:
        return None
    (rate,) = torch.autograd.grad(product.sum(), v, create_graph=graph)
    return rate


def value(row: Row, theta: float) -> float:
    return sum(p * theta ** (i + 1) for i, p in enumerate(row))
