"""Explicit Runge-Kutta steps pulled back stage by stage with the transposed tableau.

With lambda = dL/dy1 (the adjoint; Chen et al. 2018 call it a), J_i = df/dy at stage i and the tableau's a_ij, b_i,

    kbar_i = h b_i lambda + h sum_(j>i) a_ji l_j,    l_i = J_i^T kbar_i,
    dL/dy = lambda + sum_i l_i,    dL/dtheta += (df/dtheta)_i^T kbar_i

which is the symplectic partner of the tableau (Sanz-Serna 2016, "Symplectic Runge-Kutta schemes for adjoint equations";
Matsubara, Miyatake, Yaguchi 2021). The l_i, lambda and the cotangents of outputs inside the step are rows of one
buffer, so that every kbar_i is one matrix-vector product; autograd would add up one product per pair of stages.

Outputs inside a step may need f at the step's end, which is the first stage of the step after it. Their part of that
stage's cotangent is handed to the step after, which is pulled back first, so that many outputs do not cost more calls
of f than few.
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
    """Whether a step of the method evaluates the stages of an explicit tableau one after another."""
    return isinstance(method, ExplicitRungeKutta) and type(method).step is ExplicitRungeKutta.step


class StagewiseAdjoint(DiscreteAdjoint):
    """Holds the graphs of f at all stages of one step; with ``single`` one at a time, at one more f per stage."""

    single = False

    def __init__(self, gradient: str, problem: Problem, field: VectorField, ys: Tensor, cotangents: Tensor) -> None:
        super().__init__(gradient, problem, field, ys, cotangents)
        assert isinstance(self.method, ExplicitRungeKutta)
        self.tableau: ButcherTableau = self.method.tableau
        self.handed_on = False  # whether the step after this one took the cotangent of f at its start

    def pull_back_step(self, record: StepRecord, state: StepState, before: StepRecord | None) -> None:
        if not (self.single or record.inside or (before is not None and before.inside)):
            self.handed_on = False
            # One call of autograd per step instead of one per stage: faster for a small f.
            super().pull_back_step(record, state, before)
            return
        y, thetas = state.y.detach(), [theta for _, theta in record.inside]
        tableau_a, nodes, ends = coefficients(self.tableau, thetas, self.handed_on)
        times = stage_times(record.t, record.h, nodes, y, self.field.bounds)
        lower = scaled(tableau_a, len(nodes), record.h, y)
        weights = scaled(ends, len(nodes), record.h, y)  # row 0 gives y1, row 1 + q the output at thetas[q]
        ks = y.new_empty(len(nodes), len(y))
        stages = [self.stage(i, times[i], y, ks, lower) for i in range(len(nodes))]
        if self.ys is not None and not self.single:
            self.compare_ends(record, y, ks, weights)
        cotangents = [self.end_cotangent(record), *(self.cotangents[row] for row, _ in record.inside)]
        buffer = torch.cat([ks, torch.stack(cotangents)])  # l_i replaces k_i, from the last stage on
        handed_on = self.cotangent_of_first_stage(record, before)
        self.handed_on = handed_on is not None
        transposed = torch.cat([lower, weights]).t().contiguous()
        for i in reversed(range(len(nodes))):
            x, k = stages[i]
            stages[i] = (x, None)
            if k is None:
                k = self.evaluate(times[i], x)
                if self.ys is not None and i == len(nodes) - 1:
                    ks[i].copy_(k.detach())
                    self.compare_ends(record, y, ks, weights)
            kbar = torch.mv(buffer[i + 1 :].t(), transposed[i, i + 1 :])
            if i == 0 and handed_on is not None:
                kbar.add_(handed_on)
            self.pull_back_stage(x, k, kbar, buffer[i])
        self.adjoint = buffer.sum(0)

    def cotangent_of_first_stage(self, record: StepRecord, before: StepRecord | None) -> Tensor | None:
        """The cotangent [N] of f at this step's start from outputs inside ``before``; None if they do not need it."""
        end = end_stage(self.tableau)
        if before is None or end is None or before.end != record.t or not before.inside:
            return None
        weights = [before.h * self.tableau.dense_weights(theta)[end] for _, theta in before.inside]
        cotangents = torch.stack([self.cotangents[row] for row, _ in before.inside])
        return torch.mv(cotangents.t(), torch.tensor(weights, dtype=cotangents.dtype).to(cotangents.device))

    def stage(self, i: int, t: Tensor, y: Tensor, ks: Tensor, lower: Tensor) -> tuple[Tensor, Tensor | None]:
        """The stage's state, ready for a graph of f, and k_i with its graph, or None if ``single`` builds it later."""
        x = add_weighted(y, ks[:i].t(), lower[i, :i]) if i else y.detach()
        x.requires_grad_()
        if self.single:
            if i < len(ks) - 1:
                self.field.into(self.field.target(ks[i]), t, x.detach())
            return x, None
        k = self.evaluate(t, x)
        ks[i].copy_(k.detach())
        return x, k

    def evaluate(self, t: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return self.field(t, x)

    def pull_back_stage(self, x: Tensor, k: Tensor, kbar: Tensor, out: Tensor) -> None:
        """out = J^T kbar; the stage's dL/dtheta is added to ``param_grads``."""
        if not k.requires_grad:
            out.zero_()
            return
        grads = torch.autograd.grad(k, (x, *self.params), kbar, allow_unused=True)
        if grads[0] is None:
            out.zero_()
        else:
            out.copy_(grads[0])
        self.add(grads[1:])

    def compare_ends(self, record: StepRecord, y: Tensor, ks: Tensor, weights: Tensor) -> None:
        ends = torch.addmm(y.unsqueeze(0), weights, ks)
        self.compare(record, y, ends[0], ends[1:])


class SingleStageAdjoint(StagewiseAdjoint):
    single = True


Rows = Sequence[Sequence[float]]


def end_stage(tableau: ButcherTableau) -> int | None:
    """The stage that is f at the step's end, if only outputs inside the step depend on it; else None."""
    if tableau.fsal and not tableau.dense_a:
        return tableau.stages - 1
    return tableau.stages if tableau.dense_a == (tableau.b,) and tableau.dense_c == (1,) else None


def coefficients(
    tableau: ButcherTableau, thetas: Sequence[float], handed_on: bool
) -> tuple[Rows, Sequence[float], Rows]:
    """a and c of the stages that the step's end and its outputs at ``thetas`` need, and the weights of these.

    The stage at the step's end is left out if its cotangent was ``handed_on`` to the step after.
    """
    if not thetas:
        s: int | None = tableau.stages - 1 if tableau.fsal else tableau.stages
        return tableau.a[:s], tableau.c[:s], [tableau.b[:s]]
    s = end_stage(tableau) if handed_on else None
    ends = [tableau.b, *(tableau.dense_weights(theta) for theta in thetas)]
    return (*tableau.a, *tableau.dense_a)[:s], (*tableau.c, *tableau.dense_c)[:s], [row[:s] for row in ends]


def scaled(rows: Rows, width: int, h: float, like: Tensor) -> Tensor:
    """h times the rows, padded with zeros, [len(rows), width]."""
    padded = [[h * w for w in row] + [0.0] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=like.dtype).to(like.device, non_blocking=True)
