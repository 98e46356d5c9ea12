"""Simplified Newton for stage equations Z_i = sum_j w_ij f(t_j, base + Z_j); Hairer, Wanner II, IV.8.

The one nonlinear system of this library: collocation has s coupled stages, a diagonally implicit stage and a BDF step
have one. J and the LU factors of I - w x J are kept over stages and steps while they serve.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions, rms
from noderun.ode.solvers.errors import NewtonDivergence
from noderun.ode.solvers.extrapolation import Time, at
from noderun.ode.solvers.field import Field
from noderun.ode.solvers.jacobian import Jacobian
from noderun.ode.solvers.stage_systems import Factors, Implicit, Systems, coupled, precision, round_off

Weights = tuple[tuple[float, ...], ...]  # h a_ij


class Newton:
    """The stage solver of one solve. Without ``control`` it iterates to round-off, as fixed and replayed steps need."""

    def __init__(self, field: Field, control: StepOptions | None, y: Tensor) -> None:
        self.jacobian = Jacobian(field.layout, y)
        self.control = control if control is not None and not control.fixed else None
        self.kappa, self.limit = precision(self.control, y.dtype)
        self.matrix: Tensor | None = None  # J [B, d, d]
        self.fresh = False  # J was evaluated at the current state
        self.slow = False  # the last iteration converged, but a new J would help
        self.factors: dict[Weights, tuple[Systems, Factors]] = {}
        self.eta = 1.0  # estimate of |Z - Z*| / |dZ|; HW II, (IV.8.10)
        self.iterations = 0

    def solve(
        self,
        field: Field,
        t: Tensor,
        y: Tensor,
        times: Sequence[Time],
        base: Tensor,
        weights: Weights,
        guess: Tensor,
    ) -> Tensor:
        """Z [s, N], without history; J is taken at (t, y) [N]. Raises NewtonDivergence."""
        with torch.no_grad():
            scale = self.scale(y)
            if self.matrix is None or (self.slow and not self.fresh):
                self.evaluate(field, t, y)
            stages = self.iterate(field, times, base, weights, guess, scale)
            if stages is None and not self.fresh:
                self.evaluate(field, t, y)
                stages = self.iterate(field, times, base, weights, guess, scale)
            if stages is None:
                raise NewtonDivergence("Newton's iteration diverged", float(t), 0)
            return stages

    def scale(self, y: Tensor) -> Tensor:
        """The size [N] that an error of Newton's iteration may have, up to kappa."""
        if self.control is None:
            return round_off(y)
        return self.control.atol + self.control.rtol * y.abs()

    def evaluate(self, field: Field, t: Tensor, y: Tensor) -> None:
        self.matrix = self.jacobian.at(field, t, y)
        self.fresh, self.slow = True, False
        self.factors.clear()

    def iterate(
        self,
        field: Field,
        times: Sequence[Time],
        base: Tensor,
        weights: Weights,
        guess: Tensor,
        scale: Tensor,
    ) -> Tensor | None:
        """Z [s, N], or None if the iteration diverges or would take too long."""
        a, stages = torch.tensor(weights, dtype=base.dtype, device=base.device), guess
        f = functools.partial(field, in_quadrature=False)
        norm = self.control.norm if self.control is not None else rms
        eta, size, rate = max(self.eta, 1e-16) ** 0.8, 0.0, 0.0
        for k in range(self.limit):
            slopes = torch.stack([at(f, t, base + z) for t, z in zip(times, stages, strict=True)])
            update = self.apply(field, weights, a @ slopes - stages)
            before, size = size, torch.stack([norm(row) for row in update / scale]).max().item()
            if k > 0 and size > 0:
                rate = size / before
                eta = rate / (1 - rate) if rate < 1 else math.inf
            stages = stages + update
            stagnant = self.control is None and rate > 0.5 and size < 100 * self.kappa  # round-off is reached
            if eta * size <= self.kappa or stagnant:
                self.eta, self.iterations, self.slow = eta, k + 1, k > 1 and rate > 1e-3
                return stages
            if not math.isfinite(size) or (k > 0 and eta * size * rate ** (self.limit - 1 - k) > self.kappa):
                return None
        return None

    def apply(self, field: Field, weights: Weights, residual: Tensor) -> Tensor:
        """(I - w x J)^-1 residual [s, N]."""
        key = tuple(tuple(float(f"{w:.9e}") for w in row) for row in weights)  # h = t1 - t carries rounding errors
        if key not in self.factors:
            assert self.matrix is not None
            if len(self.factors) > 1:  # those of another h
                self.factors.clear()
            systems = Systems(torch.tensor(weights, dtype=residual.dtype, device=residual.device))
            self.factors[key] = systems, systems.factored(self.matrix)
            field.factorizations += 1
        systems, factors = self.factors[key]
        return self.joined(systems.solve(factors, self.samples(residual)))

    def samples(self, stages: Tensor) -> Tensor:
        """[s, N] as [B, s, d]."""
        return self.jacobian.blocks.split(stages).transpose(0, 1)

    def joined(self, samples: Tensor) -> Tensor:
        """[B, s, d] as [s, N]."""
        return self.jacobian.blocks.join(samples.transpose(0, 1))

    def differentiable(
        self, field: Field, times: Sequence[Time], base: Tensor, weights: Weights, stages: Tensor
    ) -> Tensor:
        """``stages`` [s, N] as functions of ``base`` and of what f depends on, by the implicit function theorem."""
        with torch.enable_grad():
            points = [base + z for z in stages]
            points = [point if point.requires_grad else point.requires_grad_() for point in points]
            f = functools.partial(field, in_quadrature=False)
            slopes = [at(f, t, point) for t, point in zip(times, points, strict=True)]
        jacobians = self.jacobians(slopes, points)
        a = torch.tensor(weights, dtype=base.dtype, device=base.device)
        with torch.enable_grad():
            residual = self.samples(a @ torch.stack(slopes))
            return self.joined(Implicit.apply(self.samples(stages), residual, *coupled(a, jacobians)))

    def jacobians(self, slopes: list[Tensor], points: list[Tensor]) -> list[Tensor]:
        """J [B, d, d] at every stage, in the same blocks."""
        found = [self.jacobian.of(slope, point) for slope, point in zip(slopes, points, strict=True)]
        if any(jacobian.shape != found[-1].shape for jacobian in found):  # that samples couple was found meanwhile
            return self.jacobians(slopes, points)
        return found

    def moved(self) -> None:
        """The state changed, so J is not at the current state any more."""
        self.fresh = False
