"""The derivatives k_0..k_(s-1) of the current step and their weighted sums.

They are rows of one buffer, [k_(s-1), ..., k_0, y], so that a stage state y + sum_j w_j k_j is one product of a block
of rows with a vector for any number of stages: 26 instead of 32 operations per dopri5 step. y is the last row, so it is
added last and the sum is rounded once at y's magnitude; with y first, or by addmv, its mean error would be 0.57 instead
of 0.26 units in the last place. While autograd records, the same product runs inside a Function whose backward is the
transposed sum: the numbers are those of the plain path bit for bit, and the graph holds nothing but the graph of f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.field import Field, Integrand
from noderun.ode.solvers.torch_internals import under_transform


@dataclass(frozen=True)
class Table:
    """Rows of weights of k_0, k_1, ... as one tensor, each reversed and followed by the weight of y, which is 1.

    The last ``estimates`` rows weigh no y. ``ones`` and ``weights`` [sum of the lengths]: the rows at step size h are
    ones + h weights.
    """

    lengths: list[int]
    ones: Tensor
    weights: Tensor
    estimates: int

    @staticmethod
    def of(states: Sequence[Sequence[float]], estimates: Sequence[Sequence[float]], like: Tensor) -> Table:
        rows = [([0.0] * len(row) + [1.0], [*row[::-1], 0.0]) for row in states]
        rows += [([0.0] * len(row), list(row[::-1])) for row in estimates]
        ones, weights = ([x for row in rows for x in row[i]] for i in (0, 1))
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        lengths = [len(row) for row, _ in rows]
        return Table(lengths, torch.tensor(ones, **options), torch.tensor(weights, **options), len(estimates))


class Stages:
    """The work space of a Runge-Kutta solve.

    ``ExplicitRungeKutta`` sets three marks after each step: ``known``, k_0 is f at the current state (also after a
    rejected attempt); ``last``, the stage that is f at the step's end, 0 if there is none, which ``advance`` makes k_0;
    ``complete``, the stages that only the continuous extension needs are evaluated.
    """

    def __init__(self, count: int, y: Tensor, table: Table) -> None:
        self.transformed = under_transform()  # of torch.func, which knows no writing into buffers
        self.recording = torch.is_grad_enabled() or self.transformed
        self.count, self.size, self.table = count, y.numel(), table
        self.like = y
        self.graph: list[Tensor | None] = [None] * count  # k_0, k_1, ... with their graphs, if recording
        self.integrands: list[Integrand | None] = [None] * count  # of integrals beside the state, at each stage
        self.known, self.last, self.complete = False, 0, False
        self.held: Tensor | None = None  # the y in the last row: a rejected attempt saves the copy
        self.targets: list[Tensor] = []  # k_0, k_1, ... in f's own shape, made once: saves a view per stage
        self.weights: tuple[Tensor, ...] = ()  # the table's rows at the current step size

    # Made when they are first used: a compiled solve whose steps a loop makes needs none of them.

    @cached_property
    def scaled(self) -> Tensor:
        return torch.empty_like(self.table.ones)

    @cached_property
    def rows(self) -> Tensor:
        return self.like.new_empty(self.count + 1, self.size)

    @cached_property
    def ks(self) -> list[Tensor]:
        """Views of k_0, k_1, ..."""
        return list(self.rows.unbind()[-2::-1])

    @cached_property
    def blocks(self) -> list[Tensor]:
        """For each row of the table the columns [N, n] that it weighs."""
        blocks = []
        for i, n in enumerate(self.table.lengths):
            start = self.count - n + (i < len(self.table.lengths) - self.table.estimates)
            blocks.append(self.rows.as_strided((self.size, n), (1, self.size), start * self.size))
        return blocks

    def make_targets(self, field: Field) -> list[Tensor]:
        self.targets = [field.target(k) for k in self.ks]
        return self.targets

    def begin(self, y: Tensor, h: float | Tensor) -> None:
        """A step of h from y: the table's rows become ``weights``, valid until the next step."""
        if isinstance(h, Tensor):  # of the device, which no number on the host follows
            ones, weights = self.table.ones, self.table.weights
            self.weights = torch.addcmul(ones, weights, h.to(weights.dtype)).split(self.table.lengths)
        elif self.recording:  # autograd keeps them
            self.weights = torch.add(self.table.ones, self.table.weights, alpha=h).split(self.table.lengths)
        else:
            torch.add(self.table.ones, self.table.weights, alpha=h, out=self.scaled)
            self.weights = self.weights or self.scaled.split(self.table.lengths)  # views of the buffer, made once
        if y is not self.held and not self.transformed:
            self.rows[-1].copy_(y.detach())
            self.held = y

    def evaluate(self, i: int, field: Field, t: Tensor, y: Tensor, in_quadrature: bool) -> None:
        """k_i = f(t, y)."""
        if self.recording:
            k = self.graph[i] = field(t, y, in_quadrature)
            if not self.transformed:
                self.ks[i].copy_(k.detach())
        else:
            field.into((self.targets or self.make_targets(field))[i], t, y, in_quadrature)
        if field.has_quadrature:
            self.integrands[i] = field.integrand

    def stage(self, i: int, field: Field, t: Tensor, y: Tensor, in_quadrature: bool) -> Tensor:
        """The state [N] of stage i, whose weights are row i of the table, and with it k_i = f(t, state)."""
        if self.recording or field.has_quadrature:
            state = self.sum(y, i)
            self.evaluate(i, field, t, state, in_quadrature)
        else:  # the same in two calls less, for each stage of every step without gradients
            state = torch.mv(self.blocks[i], self.weights[i])
            field.into((self.targets or self.make_targets(field))[i], t, state)
        return state

    def sum(self, y: Tensor, row: int) -> Tensor:
        """y + sum_j w_j k_j [N] with the weights w in a row of the table."""
        weights = self.weights[row]
        if not self.recording:
            return torch.mv(self.blocks[row], weights)
        states = self.history(y, len(weights) - 1)
        if self.transformed:
            return torch.einsum("s,s...->...", weights, torch.stack(states))
        return WeightedSum.apply(self.blocks[row], weights, *states)

    def sums(self, y: Tensor, weights: Tensor) -> Tensor:
        """The same for rows of weights [n, s + 1] in the table's order: [n, N]."""
        s = weights.shape[1] - 1
        if not self.recording:
            return torch.mm(weights, self.rows[self.count - s :])
        states = self.history(y, s)
        if self.transformed:
            return torch.einsum("ns,s...->n...", weights, torch.stack(states))
        return WeightedSums.apply(self.rows[self.count - s :], weights, *states)

    def history(self, y: Tensor, n: int) -> list[Tensor]:
        """k_(n-1), ..., k_0, y with their graphs."""
        return [*[k for k in self.graph[n - 1 :: -1] if k is not None], y] if n else [y]

    def derivative(self) -> Tensor:
        """k_0 [N] without history."""
        return self.graph[0].detach() if self.transformed and self.graph[0] is not None else self.ks[0]

    def estimate(self, row: int) -> Tensor:
        """sum_j w_j k_j [N], never part of a graph."""
        return torch.mv(self.blocks[row], self.weights[row])

    def advance(self) -> None:
        """The step is accepted: f at its end, if it is known, is f at the start of the next."""
        self.known = self.last > 0
        if self.known:
            if not self.transformed:
                self.ks[0].copy_(self.ks[self.last])
            self.graph[0], self.integrands[0] = self.graph[self.last], self.integrands[self.last]
        if self.recording:
            self.graph[1:] = [None] * (self.count - 1)
        self.last = 0


class WeightedSum(torch.autograd.Function):
    """sum_j w_j x_j; columns [N, n] hold the values of the x_j, which are passed too so that gradients reach them."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, weights: Tensor, *xs: Tensor) -> Tensor:
        ctx.weights = weights
        return torch.mv(columns, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        cotangents = torch.outer(ctx.weights.conj(), grads[0]).unbind()  # one operation for all stages
        return (None, None, *where_wanted(cotangents, ctx.needs_input_grad[2:]))


class WeightedSums(torch.autograd.Function):
    """sum_j w_ij x_j for every row i of weights [n, s]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, *xs: Tensor) -> Tensor:
        ctx.weights = weights
        return torch.mm(weights, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        cotangents = (ctx.weights.conj().t() @ grads[0]).unbind()
        return (None, None, *where_wanted(cotangents, ctx.needs_input_grad[2:]))


def where_wanted(grads: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    return [grad if needed else None for grad, needed in zip(grads, wanted, strict=True)]


def add_weighted(y: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """y + columns weights, rounded once at y's magnitude; addmv would round there once per column."""
    return torch.mv(columns, weights).add_(y)
