"""Simplified Newton for the stage equations of many samples at once, each with its own J, LU factors and convergence.

The decisions are those of ``Newton`` for one solution, on tensors [b]; Hairer, Wanner II, IV.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.extrapolation import Time, at
from noderun.ode.solvers.jacobian import products
from noderun.ode.solvers.per_sample.batch import norms
from noderun.ode.solvers.per_sample.step import BatchedState, StepStart
from noderun.ode.solvers.stage_systems import Factors, Implicit, Systems, coupled, precision, round_off


@dataclass
class NewtonState(BatchedState):
    """Carried from one iteration of each sample to the next; the leading dimension of every tensor is b."""

    matrix: Tensor  # J [b, N, N]
    known: Tensor  # whether J was ever evaluated
    fresh: Tensor  # whether J is that at the current state
    slow: Tensor  # the last iteration converged, but a new J would help
    eta: Tensor  # estimate of |Z - Z*| / |dZ|; HW II, (IV.8.10)
    iterations: Tensor


def unsolved(y: Tensor) -> NewtonState:
    size, width = y.shape
    no, count = y.new_zeros(size, dtype=torch.bool), y.new_zeros(size, dtype=torch.long)
    return NewtonState(count, count, y.new_zeros(size, width, width), no, no, no, y.new_ones(size), count)


@dataclass
class StageEquations:
    """Z_i = h sum_j a_ij f(t_j, base + Z_j) for every sample; J is taken at the start."""

    start: StepStart
    times: Sequence[Time]  # s of [b]
    base: Tensor  # [b, N]
    a: Tensor  # [s, s]

    def right(self, slopes: list[Tensor]) -> Tensor:
        """The right-hand side [b, s, N] from f at the stages."""
        return (self.a @ torch.stack(slopes, dim=1)) * scale_of(self.start.h, self.a)


class ScaledSystems(Systems):
    """The same with step sizes h [b] of the samples' own."""

    def __init__(self, a: Tensor) -> None:
        super().__init__(a)
        self.kept: tuple[Tensor, Tensor, Factors] | None = None

    def at(self, h: Tensor, matrix: Tensor) -> Factors:
        """The factors, kept while h and J are the same tensors: for all stages of a step."""
        if self.kept is None or self.kept[0] is not h or self.kept[1] is not matrix:
            self.kept = h, matrix, self.factored(matrix * scale_of(h, matrix))
        return self.kept[2]


def scale_of(h: Tensor, like: Tensor) -> Tensor:
    return h.to(like.dtype).view(-1, 1, 1)


class SampleNewton:
    """The stage solver of a batch. Fixed steps are solved to round-off, others as well as their tolerance asks."""

    def __init__(self, control: StepOptions, a: Tensor) -> None:
        self.control, self.systems = control, ScaledSystems(a)
        self.kappa, self.limit = precision(control, a.dtype)

    def solve(
        self, state: NewtonState, equations: StageEquations, guess: Tensor, active: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Z [b, s, N] of the ``active`` samples [b], and for which of them the iteration diverged [b]."""
        stale = active & (~state.known | (state.slow & ~state.fresh))
        if stale.any():
            self.evaluate(state, equations, stale)
        stages, failed = self.iterate(state, equations, guess, active)
        again = failed & ~state.fresh
        if again.any():
            self.evaluate(state, equations, again)
            second, lost = self.iterate(state, equations, guess, again)
            stages = torch.where(again.view(-1, 1, 1), second, stages)
            failed = torch.where(again, lost, failed)
        return stages, failed

    def evaluate(self, state: NewtonState, equations: StageEquations, chosen: Tensor) -> None:
        matrix = jacobians(equations.start)
        state.matrix = torch.where(chosen.view(-1, 1, 1), matrix, state.matrix)
        state.jacobians = state.jacobians + chosen
        state.known, state.fresh, state.slow = state.known | chosen, state.fresh | chosen, state.slow & ~chosen

    def scale(self, y: Tensor) -> Tensor:
        """The size [b, N] that an error of Newton's iteration may have, up to kappa."""
        if self.control.fixed:
            return round_off(y)
        return self.control.atol + self.control.rtol * y.abs()

    def iterate(
        self, state: NewtonState, equations: StageEquations, stages: Tensor, active: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Z [b, s, N] of the ``active``, and for which of them the iteration diverges or would take too long."""
        start, base = equations.start, equations.base
        factors = self.systems.at(start.h, state.matrix)
        scale = self.scale(start.y).unsqueeze(1)
        eta = state.eta.clamp_min(1e-16) ** 0.8
        size, rate = torch.zeros_like(eta), torch.zeros_like(eta)
        failed = torch.zeros_like(active)
        for k in range(self.limit):
            points = zip(equations.times, stages.unbind(1), strict=True)
            slopes = [at(start.field.called, t, base + z) for t, z in points]
            update = self.systems.solve(factors, equations.right(slopes) - stages)
            state.calls = state.calls + len(equations.times) * active
            before, size = size, self.norm(update / scale)
            if k > 0:
                rate = torch.where(size > 0, size / before, rate)
                eta = torch.where(size > 0, torch.where(rate < 1, rate / (1 - rate), torch.inf), eta)
            stages = torch.where(active.view(-1, 1, 1), stages + update, stages)
            close = eta * size <= self.kappa
            if self.control.fixed:  # round-off may be reached before
                close = close | ((rate > 0.5) & (size < 100 * self.kappa))
            hopeless = ~torch.isfinite(size)
            if k > 0:
                hopeless = hopeless | (eta * size * rate ** (self.limit - 1 - k) > self.kappa)
            self.note(state, active & close, eta, rate, k)
            failed = failed | (active & ~close & hopeless)
            active = active & ~close & ~hopeless
            if not active.any():
                break
        return stages, failed | active

    def norm(self, update: Tensor) -> Tensor:
        """The largest norm among the stages [b]."""
        rows = norms(self.control, update.flatten(0, 1))
        return rows.view(update.shape[:2]).amax(1)

    def note(self, state: NewtonState, converged: Tensor, eta: Tensor, rate: Tensor, k: int) -> None:
        state.eta = torch.where(converged, eta, state.eta)
        state.iterations = torch.where(converged, k + 1, state.iterations)
        state.slow = torch.where(converged, (rate > 1e-3) if k > 1 else torch.zeros_like(converged), state.slow)


def jacobians(start: StepStart) -> Tensor:
    """df/dy [b, N, N] of independent samples."""
    with torch.enable_grad():
        point = start.y.detach().requires_grad_()
        return jacobians_of(start.field(start.t, point), point).detach()


def jacobians_of(value: Tensor, point: Tensor, graph: bool = False) -> Tensor:
    """The same from f's value and the point [b, N] that it came from: N products, each for all samples at once."""
    unit = torch.eye(value.shape[1], dtype=value.dtype, device=value.device).unsqueeze(1)
    return products(value, point, unit.expand(-1, *value.shape), graph).transpose(0, 1)


def differentiable(equations: StageEquations, stages: Tensor) -> Tensor:
    """``stages`` [b, s, N] as functions of ``base`` and of what f depends on, by the implicit function theorem."""
    start, base = equations.start, equations.base
    points = [base + z for z in stages.unbind(1)]
    points = [point if point.requires_grad else point.requires_grad_() for point in points]
    slopes = [at(start.field.called, t, point) for t, point in zip(equations.times, points, strict=True)]
    scale = scale_of(start.h, equations.a)
    matrices = [jacobians_of(slope, point) * scale for slope, point in zip(slopes, points, strict=True)]
    return Implicit.apply(stages, equations.right(slopes), *coupled(equations.a, matrices))
