"""Collocation methods: y is a polynomial that satisfies the ODE at the nodes c_i; Hairer, Norsett, Wanner I, II.7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from noderun.ode.solvers.field import Field
from noderun.ode.solvers.implicit import ImplicitMethod, Work, combine
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.newton import Weights
from noderun.ode.solvers.tableau import ButcherTableau, Row
from noderun.ode.solvers.times import stage_times


class CollocationWork(Work):
    """``stages`` Z_i / h of the last accepted step (t, h, y) predict those of the next."""

    def __init__(self, y: Tensor) -> None:
        super().__init__(y)
        self.polynomial: tuple[float, float, Tensor, Tensor] | None = None  # t, h, y, h k_i [s, N]
        self.next: tuple[float, float, Tensor, Tensor] | None = None


CollocationState = TypeVar("CollocationState", bound=CollocationWork)


class CollocationMethod(ImplicitMethod[CollocationState]):
    """All s stages solved at once: Z = h A F(y + Z), y1 = y + b^T A^-1 Z."""

    def __init__(self, name: str, order: int, c: Row, source: str, description: str, error_order: int = 0) -> None:
        super().__init__(name, order, error_order, source, description)
        self.tableau = collocated(order, c)
        self.inverse = inverse(self.tableau.a)

    def attempt(self, field: Field, t: float, y: Tensor, h: float, work: CollocationState, estimate: bool) -> Step:
        times, stages = self.stages(field, t, y, h, work)
        slopes = self.inverse.to(y) @ stages  # h k_i: f is not called again, which would amplify Newton's error
        y1 = y + stages[-1] if self.tableau.c[-1] == 1 else combine(y, [self.tableau.b], slopes.unbind())[0]
        work.next = (t, h, y.detach(), slopes.detach())

        def interpolate(thetas: Sequence[float]) -> Tensor:
            return combine(y, [self.tableau.dense_weights(theta) for theta in thetas], slopes.unbind())

        error = self.error(field, t, y, y1, h, stages, work) if estimate else None
        return Step(t, h, y, y1, error, interpolate)

    def stages(
        self, field: Field, t: float, y: Tensor, h: float, work: CollocationState
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The stage times and Z [s, N]."""
        weights: Weights = tuple(tuple(h * w for w in row) for row in self.tableau.a)
        start, *times = stage_times(t, h, (0.0, *self.tableau.c), y, field.bounds)
        guess = self.guess(t, y.detach(), h, work)
        return tuple(times), work.solve(field, self.control, start, y, times, y, weights, guess)

    def guess(self, t: float, y: Tensor, h: float, work: CollocationState) -> Tensor:
        """Z from the polynomial of the step before, extrapolated; HW II, (IV.8.5)."""
        if work.polynomial is None:
            return torch.zeros(len(self.tableau.c), y.numel(), dtype=y.dtype, device=y.device)
        t_old, h_old, y_old, slopes = work.polynomial
        thetas = [(t + c * h - t_old) / h_old for c in self.tableau.c]
        return combine(y_old, [self.tableau.dense_weights(theta) for theta in thetas], slopes.unbind()) - y

    def error(
        self, field: Field, t: float, y: Tensor, y1: Tensor, h: float, stages: Tensor, work: CollocationState
    ) -> Tensor | None:
        """The error estimate [N] of a method that has one."""
        return None

    def accept(self, work: CollocationState) -> None:
        super().accept(work)
        work.polynomial = work.next

    def restart(self, work: CollocationState) -> None:
        super().restart(work)
        work.polynomial = work.next = None


class Collocation(CollocationMethod[CollocationWork]):
    """Collocation without an error estimate, for fixed steps."""

    def start(self, y: Tensor) -> CollocationWork:
        return CollocationWork(y)


def collocated(order: int, c: Row) -> ButcherTableau:
    """a_ij and b_j are the integrals of the Lagrange polynomial l_j over [0, c_i] and [0, 1]; HNW I, (II.7.7)."""
    dense = tuple(integral(lagrange(c, j)) for j in range(len(c)))
    a = tuple(tuple(value(row, c_i) for row in dense) for c_i in c)
    b = tuple(value(row, 1.0) for row in dense)
    return ButcherTableau(order=order, a=a, b=b, c=c, dense=dense, dense_order=len(c))


def lagrange(c: Row, j: int) -> list[float]:
    """Coefficients of 1, x, x^2, ... of prod_(k != j) (x - c_k) / (c_j - c_k)."""
    polynomial = [1.0]
    for k, c_k in enumerate(c):
        if k != j:
            shifted, scaled = [0.0, *polynomial], [*(-c_k * p for p in polynomial), 0.0]
            polynomial = [(x + y) / (c[j] - c_k) for x, y in zip(shifted, scaled, strict=True)]
    return polynomial


def integral(polynomial: Sequence[float]) -> Row:
    """Coefficients of x, x^2, ... of the integral from 0."""
    return tuple(p / (i + 1) for i, p in enumerate(polynomial))


def value(row: Row, x: float) -> float:
    return sum(p * x ** (i + 1) for i, p in enumerate(row))


def inverse(a: Sequence[Row]) -> Tensor:
    return torch.linalg.inv(torch.tensor(a, dtype=torch.float64))
