"""Explicit Runge-Kutta steps pulled back stage by stage with the transposed tableau.

With a = dL/dy1 and J_i = df/dy at stage i,

    kbar_i = h b_i a + h sum_(j>i) a_ji l_j,    l_i = J_i^T kbar_i,
    dL/dy = a + sum_i l_i,    dL/dtheta += (df/dtheta)_i^T kbar_i

which is the symplectic partner of the tableau (Sanz-Serna 2016, "Symplectic Runge-Kutta schemes for adjoint equations";
Matsubara, Miyatake, Yaguchi 2021). The l_i, a and the cotangents of outputs inside the step are rows of one buffer, so
that every kbar_i is one matrix-vector product, where autograd would make and add up a share for each pair of stages.

Outputs inside a step may need f at the step's end, which is the first stage of the step after it: their share of its
cotangent is handed to that step, whose turn comes first, so that many outputs cost no more calls of f than few.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint, StepRecord, StepState
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.stages import add_weighted
from noderun.ode.solvers.tableau import ButcherTableau
from noderun.ode.solvers.times import stage_times


def has_stages(method: Method) -> bool:
    """Whether the method's step is that of an explicit tableau, made stage by stage."""
    return isinstance(method, ExplicitRungeKutta) and type(method).step is ExplicitRungeKutta.step


class StagewiseAdjoint(DiscreteAdjoint):
    """Holds the graphs of f at all stages of one step; with ``single`` one at a time, at one more f per stage."""

    single = False

    def __init__(self, gradient: str, problem: Problem, field: VectorField, ys: Tensor, cotangents: Tensor) -> None:
        super().__init__(gradient, problem, field, ys, cotangents)
        assert isinstance(self.method, ExplicitRungeKutta)
        self.tableau: ButcherTableau = self.method.tableau
        self.handed = False  # whether the step after this one took the share of f at its start

    def pull(self, move: StepRecord, state: StepState, before: StepRecord | None) -> None:
        if not (self.single or move.inside or (before is not None and before.inside)):
            self.handed = False
            super().pull(move, state, before)  # one call of autograd instead of one a stage: faster for a small f
            return
        y, inside = state.y.detach(), move.inside
        thetas = [theta for _, theta in inside]
        a, c, ends = coefficients(self.tableau, thetas, self.handed)
        times = stage_times(move.t, move.h, c, y, self.field.bounds)
        lower = matrix(a, len(c), move.h, y)
        weights = matrix(ends, len(c), move.h, y)  # row 0 gives y1, row 1 + q the output at thetas[q]
        rows = y.new_empty(len(c), len(y))
        stages = [self.stage(i, times[i], y, rows, lower) for i in range(len(c))]
        if self.ys is not None and not self.single:
            self.compare_rows(move, y, rows, weights)
        cotangents = [self.end_cotangent(move), *(self.cotangents[row] for row, _ in inside)]
        buffer = torch.cat([rows, torch.stack(cotangents)])  # l_i take the places of k_i from the last on
        share = self.share(move, before)
        self.handed = share is not None
        transposed = torch.cat([lower, weights]).t().contiguous()
        for i in reversed(range(len(c))):
            x, k = stages[i]
            stages[i] = (x, None)
            if k is None:
                k = self.evaluate(times[i], x)
                if self.ys is not None and i == len(c) - 1:
                    rows[i].copy_(k.detach())
                    self.compare_rows(move, y, rows, weights)
            kbar = torch.mv(buffer[i + 1 :].t(), transposed[i, i + 1 :])
            if i == 0 and share is not None:
                kbar.add_(share)
            self.transpose(x, k, kbar, buffer[i])
        self.a = buffer.sum(0)

    def share(self, move: StepRecord, before: StepRecord | None) -> Tensor | None:
        """The cotangent [N] of f where ``before`` ended, from the outputs inside it; None where that is not here."""
        end = end_stage(self.tableau)
        if before is None or end is None or before.end != move.t or not before.inside:
            return None
        weights = [before.h * self.tableau.dense_weights(theta)[end] for _, theta in before.inside]
        cotangents = torch.stack([self.cotangents[row] for row, _ in before.inside])
        return torch.mv(cotangents.t(), torch.tensor(weights, dtype=cotangents.dtype).to(cotangents.device))

    def stage(self, i: int, t: Tensor, y: Tensor, rows: Tensor, lower: Tensor) -> tuple[Tensor, Tensor | None]:
        """The stage's state, ready for a graph of f, and with it k_i unless its graph is to wait for its turn."""
        x = add_weighted(y, rows[:i].t(), lower[i, :i]) if i else y.detach()
        x.requires_grad_()
        if self.single:
            if i < len(rows) - 1:
                self.field.into(self.field.target(rows[i]), t, x.detach())
            return x, None
        k = self.evaluate(t, x)
        rows[i].copy_(k.detach())
        return x, k

    def evaluate(self, t: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return self.field(t, x)

    def transpose(self, x: Tensor, k: Tensor, kbar: Tensor, out: Tensor) -> None:
        """out = J^T kbar, and the parameters' share of the same stage."""
        if not k.requires_grad:
            out.zero_()
            return
        grads = torch.autograd.grad(k, (x, *self.params), kbar, allow_unused=True)
        if grads[0] is None:
            out.zero_()
        else:
            out.copy_(grads[0])
        self.add(grads[1:])

    def compare_rows(self, move: StepRecord, y: Tensor, rows: Tensor, weights: Tensor) -> None:
        ends = torch.addmm(y.unsqueeze(0), weights, rows)
        self.compare(move, y, ends[0], ends[1:])


class SingleStageReversal(StagewiseAdjoint):
    single = True


Rows = Sequence[Sequence[float]]


def end_stage(tableau: ButcherTableau) -> int | None:
    """The stage that is f at the step's end, where only outputs inside the step depend on it."""
    if tableau.fsal and not tableau.dense_a:
        return tableau.stages - 1
    return tableau.stages if tableau.dense_a == (tableau.b,) and tableau.dense_c == (1,) else None


def coefficients(tableau: ButcherTableau, thetas: Sequence[float], handed: bool) -> tuple[Rows, Sequence[float], Rows]:
    """a and c of the stages that the step's end and its outputs at ``thetas`` need, and the weights of those.

    Without f at the step's end if that was ``handed`` to the step after it.
    """
    if not thetas:
        s: int | None = tableau.stages - 1 if tableau.fsal else tableau.stages
        return tableau.a[:s], tableau.c[:s], [tableau.b[:s]]
    s = end_stage(tableau) if handed else None
    ends = [tableau.b, *(tableau.dense_weights(theta) for theta in thetas)]
    return (*tableau.a, *tableau.dense_a)[:s], (*tableau.c, *tableau.dense_c)[:s], [row[:s] for row in ends]


def matrix(rows: Rows, width: int, h: float, like: Tensor) -> Tensor:
    """h times the rows, filled up with zeros, [len(rows), width]."""
    filled = [[h * w for w in row] + [0.0] * (width - len(row)) for row in rows]
    return torch.tensor(filled, dtype=like.dtype).to(like.device, non_blocking=True)
