"""One explicit Runge-Kutta step of many samples, each by a step size of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from noderun.solvers.sample_field import Evaluate
from noderun.solvers.tableau import ButcherTableau


class Formula:
    """A tableau on a device."""

    def __init__(self, tableau: ButcherTableau, like: Tensor) -> None:
        def row(weights: tuple[float, ...]) -> Tensor:
            return torch.tensor(weights, dtype=like.dtype, device=like.device)

        self.tableau = tableau
        self.a, self.dense_a = [row(r) for r in tableau.a], [row(r) for r in tableau.dense_a]
        self.b, self.error, self.low_error = row(tableau.b), row(tableau.error or ()), row(tableau.low_error or ())
        self.dense = torch.tensor(tableau.dense, dtype=torch.float64, device=like.device)  # [stages, powers of theta]


class SampleStep:
    """From (t [b], y [b, N]) by h [b]; ``slope`` is f at the start where it is known."""

    def __init__(
        self,
        formula: Formula,
        evaluate: Evaluate,
        t: Tensor,
        y: Tensor,
        h: Tensor,
        slope: Tensor | None = None,
        estimate: bool = False,
    ) -> None:
        self.formula, self.evaluate, self.t, self.y, self.h = formula, evaluate, t, y, h
        self.scale = h.to(y.dtype).unsqueeze(1)
        self.slopes: list[Tensor] = []
        self.calls = 0
        tableau = formula.tableau
        # Rows of one buffer make a weighted sum one matrix-vector product; autograd needs tensors of their own.
        stages = 0 if torch.is_grad_enabled() else tableau.stages + len(tableau.dense_c)
        self.buffer = y.new_empty(stages, y.numel())
        # Without an estimate nothing in this step needs an FSAL method's last stage.
        evaluated = tableau.stages if estimate or not tableau.fsal else tableau.stages - 1
        state = y
        for i in range(evaluated):
            if i == 0 and slope is not None:
                self.keep(slope)
                continue
            state = self.sum(formula.a[i]) if i else y
            self.add(tableau.c[i], state)
        self.y1 = state if tableau.fsal and estimate else self.sum(formula.b)

    def add(self, c: float, state: Tensor) -> None:
        self.calls += 1
        self.keep(self.evaluate(self.t + c * self.h, state))

    def keep(self, slope: Tensor) -> None:
        if len(self.buffer):
            slope = self.buffer[len(self.slopes)].view_as(slope).copy_(slope)
        self.slopes.append(slope)

    def sum(self, weights: Tensor) -> Tensor:
        """y + h sum_j weights_j k_j."""
        return torch.addcmul(self.y, self.weighted(weights), self.scale)

    def weighted(self, weights: Tensor) -> Tensor:
        n = min(len(weights), len(self.slopes))
        if len(self.buffer):
            return torch.mv(self.buffer[:n].t(), weights[:n]).view_as(self.y)
        return torch.tensordot(weights[:n], torch.stack(self.slopes[:n]), 1)

    def error(self, weights: Tensor) -> Tensor:
        return self.weighted(weights).mul_(self.scale)

    def last_slope(self) -> Tensor | None:
        """f at the end, where a stage is that."""
        tableau = self.formula.tableau
        there = tableau.fsal and self.calls and len(self.slopes) >= tableau.stages
        return self.slopes[tableau.stages - 1] if there else None

    def between(self, place: Tensor, theta: Tensor) -> Tensor:
        """y(t + theta h) [n, N] of the samples at ``place`` [n], y1 itself at theta = 1."""
        self.complete()
        powers = torch.stack([theta ** (i + 1) for i in range(self.formula.dense.shape[1])], dim=1)
        weights = (powers @ self.formula.dense.t()).to(self.y.dtype)
        slopes = torch.stack(self.slopes)[: weights.shape[1], place]
        inside = self.y[place] + self.scale[place] * torch.einsum("ns,snk->nk", weights, slopes)
        return torch.where((theta == 1).unsqueeze(1), self.y1[place], inside)

    def complete(self) -> None:
        """Evaluate the stages that only the continuous extension needs, once."""
        tableau = self.formula.tableau
        if tableau.fsal and len(self.slopes) < tableau.stages:
            self.add(1.0, self.y1)
        for i in range(len(self.slopes) - tableau.stages, len(tableau.dense_c)):
            row, c = self.formula.dense_a[i], tableau.dense_c[i]
            self.add(c, self.y1 if c == 1 and tableau.dense_a[i] == tableau.b else self.sum(row))
