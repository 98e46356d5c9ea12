"""The derivatives k_0..k_(s-1) of the step in hand and their weighted sums.

They are rows of one buffer, so that a stage state y + sum_j w_j k_j is a single matrix-vector product whatever the
number of stages. While autograd records, the same product runs inside a Function whose backward is the transposed sum:
the numbers are those of the plain path bit for bit, and the graph holds nothing but the graph of f.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.solvers.field import Field, Integrand


class Stages:
    """Work space of a Runge-Kutta solve; ``known`` says whether row 0 is f at the current state."""

    def __init__(self, count: int, y: Tensor, coefficients: Sequence[Sequence[float]] = ()) -> None:
        self.transformed = under_transform()
        self.recording = torch.is_grad_enabled() or self.transformed
        self.rows = y.new_empty(0 if self.transformed else count, y.numel())
        self.graph: list[Tensor | None] = [None] * count
        self.integrands: list[Integrand | None] = [None] * count
        self.known = False
        self.last = 0  # the row that holds f at the step's end, or 0 where none does
        self.complete = False  # whether the stages that only the continuous extension needs are evaluated
        self.columns = [self.rows[:n].t() for n in range(len(self.rows) + 1)]  # views, made once
        self.lengths = [len(row) for row in coefficients]
        width = max(self.lengths, default=0)
        padded = [[*row, *[0.0] * (width - len(row))] for row in coefficients]
        self.coefficients = torch.tensor(padded, dtype=y.dtype, device=y.device)
        self.scaled = torch.empty_like(self.coefficients)
        self.views = self.cut(self.scaled)

    def cut(self, padded: Tensor) -> list[Tensor]:
        return [row[:n] for row, n in zip(padded, self.lengths, strict=True)]

    def weights(self, h: float) -> list[Tensor]:
        """h times each row of the coefficients; valid until the next call, but for what autograd recorded."""
        if self.recording:
            return self.cut(self.coefficients * h)
        torch.mul(self.coefficients, h, out=self.scaled)
        return self.views

    def evaluate(self, i: int, field: Field, t: Tensor, y: Tensor, weighted: bool) -> None:
        """k_i = f(t, y)."""
        if self.recording:
            k = self.graph[i] = field(t, y, weighted)
            if not self.transformed:
                self.rows[i].copy_(k.detach())
        else:
            field.into(self.rows[i], t, y, weighted)
        self.integrands[i] = field.integrand

    def sum(self, y: Tensor, weights: Tensor) -> Tensor:
        """y + sum_j weights_j k_j [N] over the leading len(weights) stages."""
        n = len(weights)
        if self.transformed:
            return y + torch.einsum("s,s...->...", weights, torch.stack([k for k in self.graph[:n] if k is not None]))
        if self.recording:
            return WeightedSum.apply(y, self.columns[n], weights, *self.graph[:n])
        return plus(y, self.columns[n], weights)

    def sums(self, y: Tensor, weights: Tensor) -> Tensor:
        """The same for every row of weights [n, s]: [n, N]."""
        s = weights.shape[1]
        if self.transformed:
            return torch.stack([self.sum(y, row) for row in weights.unbind()])
        if self.recording:
            return WeightedSums.apply(y, self.rows[:s], weights, *self.graph[:s])
        return torch.addmm(y.unsqueeze(0), weights, self.rows[:s])

    def derivative(self) -> Tensor:
        """k_0 [N] without history."""
        return self.graph[0].detach() if self.transformed and self.graph[0] is not None else self.rows[0]

    def error(self, weights: Tensor) -> Tensor:
        """sum_j weights_j k_j [N], never part of a graph."""
        return torch.mv(self.columns[len(weights)], weights)

    def advance(self) -> None:
        """f at the end of the accepted step, where it is known, is f at the start of the next."""
        self.known = self.last > 0
        if self.known:
            if not self.transformed:
                self.rows[0].copy_(self.rows[self.last])
            self.graph[0], self.integrands[0] = self.graph[self.last], self.integrands[self.last]
        self.graph[1:] = [None] * (len(self.graph) - 1)
        self.last = 0


def plus(y: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """y + columns weights, rounded once at y's magnitude; addmv would round there once a column."""
    return torch.mv(columns, weights).add_(y)


class WeightedSum(torch.autograd.Function):
    """y + sum_j w_j k_j; columns hold the values of the k_j, which are passed too so that gradients reach them."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, columns: Tensor, weights: Tensor, *ks: Tensor) -> Tensor:
        ctx.weights = weights
        return plus(y, columns, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        wanted = ctx.needs_input_grad
        shares = (g * w if wanted[3 + j] else None for j, w in enumerate(ctx.weights.conj().unbind()))
        return (g if wanted[0] else None, None, None, *shares)


class WeightedSums(torch.autograd.Function):
    """y + sum_j w_ij k_j for every row i of weights [n, s]."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, rows: Tensor, weights: Tensor, *ks: Tensor) -> Tensor:
        ctx.weights = weights
        return torch.addmm(y.unsqueeze(0), weights, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        wanted = ctx.needs_input_grad
        shares = (ctx.weights.conj().t() @ g).unbind() if any(wanted[3:]) else (None,) * len(wanted[3:])
        return (g.sum(0) if wanted[0] else None, None, None, *shares)


def under_transform() -> bool:
    """Whether torch.func (vmap, jvp, grad) or forward-mode autograd is at work: they need out-of-place operations."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0


def stage_times(t: float, h: float, c: Sequence[float], like: Tensor) -> tuple[Tensor, ...]:
    """t + c_i h as 0-dim tensors of like's real dtype: summed in double on the host, one transfer a step."""
    dtype = like.dtype.to_real()
    times = torch.tensor([t + c_i * h for c_i in c], dtype=dtype)
    return times.to(like.device, non_blocking=True).unbind()
