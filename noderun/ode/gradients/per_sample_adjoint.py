"""The continuous adjoint of a batch in which each sample has steps of its own; see ``adjoint``.

Every sample's (z, a) is integrated back from each of its outputs to the one before, again with steps of its own. The
integral for theta, which does not act back on a, is Gauss's formula on the continuous extension of a round's accepted
steps, all samples together; if its error is above the tolerance, on the halves of these steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from noderun.ode.gradients.backward_solve import HALVINGS, StepCountLimit
from noderun.ode.gradients.field_checks import check_unchanged
from noderun.ode.gradients.integral import ParamIntegral, joined
from noderun.ode.gradients.solve_function import Gradients, Recorded, SolveFunction
from noderun.ode.solvers.field import Integrand
from noderun.ode.solvers.implicit import GAUSS, GAUSS_ERROR, NODES
from noderun.ode.solvers.method import Quadrature
from noderun.ode.solvers.per_sample.attempt import Attempt
from noderun.ode.solvers.per_sample.batch import Batch
from noderun.ode.solvers.per_sample.dense import at_times, longest, ordered
from noderun.ode.solvers.per_sample.field import BatchedField, SampleField
from noderun.ode.solvers.per_sample.problem import (
    FAILURES,
    OutputRead,
    SampleOutputIndex,
    SampleProblem,
    SampleStatistics,
)
from noderun.ode.solvers.per_sample.stepper import integrate_samples


def adjoint(problem: SampleProblem, full: bool) -> Tensor:
    """The rows, with a backward solve that holds nothing but these rows.

    With ``full`` the error of the integral for theta counts as well.
    """
    return SolveFunction.apply("adjoint", problem, record, partial(pull_back, full), problem.y0, *problem.params)


def record(problem: SampleProblem) -> Recorded:
    rows = integrate_samples(problem)
    return rows, (rows, *problem.params), None


def pull_back(full: bool, problem: SampleProblem, saved: list[Tensor], kept: None, rows_grad: Tensor) -> Gradients:
    with problem.field.autocast.outside():
        check_start("adjoint", problem)
        solve = BatchedAdjointSolve(problem, full)
        a = solve.run(saved[0], rows_grad)
    count_backward(problem, solve.nfe)
    return a, solve.integral.gradients()


def check_start(gradient: str, problem: SampleProblem) -> None:
    """RuntimeError if f has changed since the forward pass."""

    def start(t: float) -> Tensor:
        with torch.no_grad():
            return problem.field.of(None)(problem.ts[:, 0], problem.y0.detach())

    check_unchanged(gradient, problem.field.witness, problem.field.autocast.dtype, start)


def count_backward(problem: SampleProblem, nfe: Tensor) -> None:
    stats = problem.stats
    stats.nfe_backward = nfe if stats.nfe_backward is None else stats.nfe_backward + nfe


class BatchedAdjointField(BatchedField):
    """d(z, a)/ds [b, 2 N] of some samples; s runs against the direction of the forward solve."""

    def called(self, s: Tensor, y: Tensor) -> Tensor:
        recording = torch.is_grad_enabled()  # for the Jacobian of an implicit method
        z, a = y.chunk(2, dim=1)
        with torch.enable_grad():
            z = z if recording and z.requires_grad else z.detach().requires_grad_()
            dz = super().called(-s, z)
        if not dz.requires_grad:  # f does not depend on the state
            return torch.cat([-dz, torch.zeros_like(a)], dim=1)
        (da,) = torch.autograd.grad(dz, z, a, create_graph=recording, materialize_grads=True, allow_unused=True)
        both = torch.cat([-dz, da], dim=1)
        return both if recording else both.detach()


class SampleAdjointField(SampleField):
    """The field of (z, a); its times run against those of ``field``."""

    def __init__(self, field: SampleField) -> None:
        self.inner, self.layout = field, field.layout
        self.sign = -field.signs

    def of(self, samples: Tensor | None) -> BatchedField:
        inner = self.inner.of(samples)
        bounds = self.bounds if samples is None else self.bounds.take(samples)
        return BatchedAdjointField(self.inner, inner.args, inner.sign, bounds)


class BatchedAdjointSolve:
    """dL/dy0 [B, N] and dL/dtheta from dL/drows."""

    def __init__(self, problem: SampleProblem, full: bool) -> None:
        self.problem, self.field = problem, SampleAdjointField(problem.field)
        self.integral = ParamIntegral(problem.params, problem.backward, full)
        self.nfe = torch.zeros_like(problem.stats.nfe_forward)
        self.rounds = 0

    def run(self, rows: Tensor, cotangents: Tensor) -> Tensor:
        """dL/dy0 [B, N]; SolveError if the backward solve of a sample fails."""
        problem, (size, width) = self.problem, self.problem.y0.shape
        sample, time, row = problem.outputs.all_rows(problem)
        wanted = (cotangents[row] != 0).any(1) | (row < size)  # the starts, and what the loss depends on
        sample, time, row = sample[wanted], time[wanted], row[wanted]
        order, place = ordered(sample, time, size)
        at = place, sample[order]
        ts = time.new_full((longest(place), size), torch.nan).index_put(at, time[order])
        z = rows.new_zeros(*ts.shape, width).index_put(at, rows[row[order]])
        given = torch.zeros_like(z).index_put(at, cotangents[row[order]])
        a, stats = torch.zeros_like(z[0]), problem.stats
        attempts = int((stats.accepted + stats.rejected).max()) if size else 0
        self.limit = StepCountLimit("adjoint", attempts, len(ts), problem, problem.method.error_order)
        for i in reversed(range(1, len(ts))):
            a = self.solve_between(ts[i], ts[i - 1], z[i], a + given[i])
        return a + given[0]

    def solve_between(self, start: Tensor, end: Tensor, z: Tensor, a: Tensor) -> Tensor:
        """a [B, N] at ``end`` from a at ``start``; a sample whose start is NaN stays as it is."""
        problem, stay = self.problem, torch.isnan(start)
        ts = torch.where(stay.unsqueeze(1), 0.0, torch.stack([-start, -end], dim=1))
        stats, y0 = SampleStatistics.of(len(z), z.device), torch.cat([z, a], dim=1)
        backward = replace(
            problem,
            field=self.field,
            y0=y0,
            ts=ts,
            control=problem.backward.fitted(y0[0]),
            stats=stats,
            events=(),
            fractions=(),
            outputs=SampleOutputIndex(),
        )
        rows = integrate_samples(backward, self.observe)
        self.nfe += stats.nfe_forward
        for code, (kind, what) in FAILURES.items():
            if (stats.status == code).any():
                which = int((stats.status == code).nonzero()[0])
                t, step = stats.t[which].item(), int(stats.accepted[which])
                where = f"sample {which}, t = {t:.6g}"
                raise kind(f"in the backward pass, gradient='adjoint': {what} ({where}): {kind.remedy}", t, step)
        return at_times(backward, rows)[1].chunk(2, dim=1)[1]

    def observe(self, attempt: Attempt, batch: Batch, reads: list[OutputRead]) -> None:
        self.rounds += 1
        self.limit.check(self.rounds)
        if self.problem.params:
            self.integrate(attempt, batch, reads)

    def integrate(self, attempt: Attempt, batch: Batch, reads: list[OutputRead]) -> None:
        """Add what the accepted steps of a round contribute to dL/dtheta."""
        step, accepted, sample = attempt.step, attempt.accepted, None
        place = torch.arange(len(accepted), device=accepted.device)
        if self.problem.compact:
            place = place[accepted]
            sample = batch.sample[place]
        if not len(place):
            return
        h = torch.where(accepted, step.h, 0.0)[place]

        def integrand(theta: float) -> Integrand:
            """h a^T df/dtheta, summed over the samples, at this fraction of their steps."""
            self.nfe[batch.sample] += accepted
            inside = step.between(place, torch.full_like(h, theta))
            z, a = torch.where(accepted[place].unsqueeze(1), inside, step.y[place]).chunk(2, dim=1)
            with torch.enable_grad():
                dz = self.problem.field.of(sample)(-(step.t[place] + theta * h), z)
            return self.param_vjp(dz, a * h.to(a.dtype).unsqueeze(1))

        self.add(integrand, 0.0, 1.0, HALVINGS)

    def param_vjp(self, dz: Tensor, cotangent: Tensor) -> Integrand:
        """cotangent^T df/dtheta [P]."""
        params = self.problem.params
        if not dz.requires_grad:
            return joined(params, [None] * len(params))
        return joined(params, torch.autograd.grad(dz, params, cotangent, allow_unused=True))

    def add(self, integrand: Callable[[float], Integrand], start: float, width: float, halvings: int) -> None:
        """Subtract the integral over a part of the steps, by halves if it is not accurate enough."""
        controlled = self.integral.controlled
        nodes, weights, errors = (NODES, GAUSS, GAUSS_ERROR) if controlled else (NODES[1:], GAUSS[1:], ())
        values = [integrand(start + width * node) for node in nodes]
        quadrature = Quadrature.of(values, weights, errors, -width)
        if not controlled:
            self.integral.add(quadrature)
        elif self.integral.try_step(quadrature) <= 1 or halvings == 0:
            self.integral.accept()
        else:
            for begin in (start, start + width / 2):
                self.add(integrand, begin, width / 2, halvings - 1)
