"""Explicit Runge-Kutta steps of many samples, each with its own step size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.per_sample.step import BatchedMethod, BatchedState, SampleStep, StepStart, as_column
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta


class BatchedRungeKutta(BatchedMethod[BatchedState]):
    """An explicit tableau on a device; makes steps."""

    def __init__(self, method: ExplicitRungeKutta, control: StepOptions, like: Tensor) -> None:
        self.tableau = tableau = method.tableau
        super().__init__(method.error_order, tableau.dense, control, like)
        self.a, self.dense_a = [self.row(r) for r in tableau.a], [self.row(r) for r in tableau.dense_a]
        self.b = self.row(tableau.b)
        self.estimates = [self.row(r) for r in (tableau.error, tableau.low_error) if r]
        self.c = self.column((*tableau.c, *tableau.dense_c))
        self.buffer = like.new_empty(0)
        self.rows: tuple[Tensor, ...] = ()  # of the buffer for u_i [b, N]
        self.columns: list[Tensor] = []  # the first n of them, transposed [b N, n]

    def use(self, y: Tensor) -> None:
        """Prepare a buffer for states like y [b, N]: with rows of one buffer a weighted sum is one product."""
        if not self.rows or self.rows[0].shape != y.shape:
            self.buffer = y.new_empty(self.c.shape[0], *y.shape)
            flat = self.buffer.view(self.c.shape[0], -1)
            self.rows, self.columns = self.buffer.unbind(), [flat[:n].t() for n in range(len(flat) + 1)]

    def start(self, y: Tensor) -> BatchedState:
        return BatchedState.counted(y)

    def step(self, start: StepStart, state: BatchedState, estimate: bool) -> SampleStep:
        return RungeKuttaStep(self, start, estimate)

    def replay(self, start: StepStart, solved: Sequence[Tensor]) -> SampleStep:
        return RungeKuttaStep(self, start, False)


class RungeKuttaStep(SampleStep):
    def __init__(self, method: BatchedRungeKutta, start: StepStart, estimate: bool) -> None:
        super().__init__(start, method.dense)
        y, self.method = start.y, method
        self.times = start.times(method.c)
        self.scale = as_column(start.h.to(y.dtype), y)
        tableau = method.tableau
        self.recording = torch.is_grad_enabled()  # autograd needs tensors of their own, no buffer
        if not self.recording:
            method.use(y)
        # Without an estimate nothing in this step needs an FSAL method's last stage.
        evaluated = tableau.stages if estimate or not tableau.fsal else tableau.stages - 1
        last = self.slope
        for i in range(evaluated):
            if i > 0 or last is None:
                self.y1 = self.sum(method.a[i]) if i else y
                last = self.evaluate(i, self.y1)
                self.slope = self.slope if i else last
            self.keep(last)
        ends = tableau.fsal and estimate
        self.y1, self.end = (self.y1, last) if ends else (self.sum(method.b), None)
        self.errors = tuple(self.weighted(weights) for weights in method.estimates) if estimate else ()

    def evaluate(self, i: int, state: Tensor) -> Tensor:
        self.calls += 1
        return self.field.called(self.times[i], state)

    def keep(self, slope: Tensor) -> None:
        out = None if self.recording else self.method.rows[len(self.us)]
        self.us.append(torch.mul(slope, self.scale, out=out))

    def sum(self, weights: Tensor) -> Tensor:
        """y + sum_j weights_j u_j."""
        return self.weighted(weights) + self.y if self.recording else self.weighted(weights).add_(self.y)

    def weighted(self, weights: Tensor) -> Tensor:
        n = min(weights.shape[0], len(self.us))
        weights = weights if n == weights.shape[0] else weights[:n]
        if self.recording:
            return torch.tensordot(weights, torch.stack(self.us[:n]), 1)
        return torch.mv(self.method.columns[n], weights).view_as(self.y)

    def increments(self) -> Tensor:
        """Those of the stages that only the continuous extension needs included, which are evaluated once."""
        tableau = self.method.tableau
        if tableau.fsal and len(self.us) < tableau.stages:
            self.keep(self.evaluate(tableau.stages - 1, self.y1))
        for i in range(len(self.us) - tableau.stages, len(tableau.dense_c)):
            at_end = tableau.dense_c[i] == 1 and tableau.dense_a[i] == tableau.b
            state = self.y1 if at_end else self.sum(self.method.dense_a[i])
            self.keep(self.evaluate(tableau.stages + i, state))
        n = len(self.dense)
        return torch.stack(self.us[:n]) if self.recording else self.method.buffer[:n]
