"""One explicit Runge-Kutta step of many samples, each by a step size of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.solvers.runge_kutta import ExplicitRungeKutta
from noderun.solvers.sample_field import FieldOf

SHORT = 16  # rows of fewer components are too short for the inner loop of an operation that broadcasts along them


def spread(x: Tensor, like: Tensor) -> Tensor:
    """x [b] broadcastable to ``like`` [b, N], of the same shape where rows are short."""
    column = x.unsqueeze(1)
    return column.expand_as(like).contiguous() if like.shape[1] < SHORT else column


class SampleStep:
    """An attempt of many samples: from (t [b], y [b, N]) by h [b] to y1 = y + sum_i b_i u_i with u_i = h k_i [b, N].

    ``dense`` [stages, powers of theta] are the polynomials by which the u_i enter y(t + theta h).
    """

    def __init__(self, t: Tensor, y: Tensor, h: Tensor, dense: Tensor) -> None:
        self.t, self.y, self.h, self.dense = t, y, h, dense
        self.y1 = y
        self.errors: tuple[Tensor, ...] = ()  # estimates [b, N]
        self.calls = 0
        self.slope: Tensor | None = None  # f at the start [b, N]
        self.end: Tensor | None = None  # f at the end, where a stage is that

    def increments(self) -> Tensor:
        """All u_i that ``dense`` weighs [s, b, N]."""
        raise NotImplementedError

    def between(self, place: Tensor, theta: Tensor) -> Tensor:
        """y(t + theta h) [n, N] of the samples at ``place`` [n], y1 itself at theta = 1."""
        powers = theta.expand(self.dense.shape[1], -1).cumprod(0)
        weights = (self.dense @ powers).to(self.y.dtype).unsqueeze(2)
        inside = self.y[place] + (weights * self.increments()[:, place]).sum(0)
        return torch.where((theta == 1).unsqueeze(1), self.y1[place], inside)


class Explicit:
    """An explicit tableau on a device; makes steps."""

    def __init__(self, method: ExplicitRungeKutta, like: Tensor) -> None:
        def row(weights: Sequence[float]) -> Tensor:
            return torch.tensor(weights, dtype=like.dtype, device=like.device)

        self.tableau = tableau = method.tableau
        self.buffer = like.new_empty(0)
        self.order = method.error_order
        self.a, self.dense_a = [row(r) for r in tableau.a], [row(r) for r in tableau.dense_a]
        self.b = row(tableau.b)
        self.estimates = [row(r) for r in (tableau.error, tableau.low_error) if r]
        c = torch.tensor((*tableau.c, *tableau.dense_c), dtype=torch.float64)
        self.c = c.to(like.device).unsqueeze(1)
        self.rows: tuple[Tensor, ...] = ()  # of the buffer for u_i [b, N]
        self.columns: list[Tensor] = []  # the first n of them, transposed [b N, n]
        self.dense = torch.tensor(tableau.dense, dtype=torch.float64, device=like.device)

    def use(self, y: Tensor) -> None:
        """Prepare a buffer for states like y [b, N]: with rows of one buffer a weighted sum is one product."""
        if not self.rows or self.rows[0].shape != y.shape:
            self.buffer = y.new_empty(self.c.shape[0], *y.shape)
            flat = self.buffer.view(self.c.shape[0], -1)
            self.rows, self.columns = self.buffer.unbind(), [flat[:n].t() for n in range(len(flat) + 1)]

    def step(
        self, field: FieldOf, t: Tensor, y: Tensor, h: Tensor, slope: Tensor | None = None, estimate: bool = False
    ) -> SampleStep:
        return ExplicitStep(self, field, t, y, h, slope, estimate)


class ExplicitStep(SampleStep):
    def __init__(
        self, formula: Explicit, field: FieldOf, t: Tensor, y: Tensor, h: Tensor, slope: Tensor | None, estimate: bool
    ) -> None:
        super().__init__(t, y, h, formula.dense)
        self.formula, self.field = formula, field
        self.times = torch.addcmul(t, formula.c, h).to(y.dtype.to_real()).unbind()
        self.scale = spread(h.to(y.dtype), y)
        self.us: list[Tensor] = []
        tableau = formula.tableau
        self.recording = torch.is_grad_enabled()  # autograd needs tensors of their own, no buffer
        if not self.recording:
            formula.use(y)
        # Without an estimate nothing in this step needs an FSAL method's last stage.
        evaluated = tableau.stages if estimate or not tableau.fsal else tableau.stages - 1
        last, self.slope = slope, slope
        for i in range(evaluated):
            if i > 0 or last is None:
                self.y1 = self.sum(formula.a[i]) if i else y
                last = self.evaluate(i, self.y1)
                self.slope = self.slope if i else last
            self.keep(last)
        ends = tableau.fsal and estimate
        self.y1, self.end = (self.y1, last) if ends else (self.sum(formula.b), None)
        self.errors = tuple(self.weighted(weights) for weights in formula.estimates) if estimate else ()

    def evaluate(self, i: int, state: Tensor) -> Tensor:
        self.calls += 1
        return self.field(self.times[i], state)

    def keep(self, slope: Tensor) -> None:
        out = None if self.recording else self.formula.rows[len(self.us)]
        self.us.append(torch.mul(slope, self.scale, out=out))

    def sum(self, weights: Tensor) -> Tensor:
        """y + sum_j weights_j u_j."""
        return self.weighted(weights) + self.y if self.recording else self.weighted(weights).add_(self.y)

    def weighted(self, weights: Tensor) -> Tensor:
        n = min(weights.shape[0], len(self.us))
        weights = weights if n == weights.shape[0] else weights[:n]
        if self.recording:
            return torch.tensordot(weights, torch.stack(self.us[:n]), 1)
        return torch.mv(self.formula.columns[n], weights).view_as(self.y)

    def increments(self) -> Tensor:
        """Of the stages that only the continuous extension needs, too; these are evaluated once."""
        tableau = self.formula.tableau
        if tableau.fsal and len(self.us) < tableau.stages:
            self.keep(self.evaluate(tableau.stages - 1, self.y1))
        for i in range(len(self.us) - tableau.stages, len(tableau.dense_c)):
            at_end = tableau.dense_c[i] == 1 and tableau.dense_a[i] == tableau.b
            state = self.y1 if at_end else self.sum(self.formula.dense_a[i])
            self.keep(self.evaluate(tableau.stages + i, state))
        n = len(self.dense)
        return torch.stack(self.us[:n]) if self.recording else self.formula.buffer[:n]
