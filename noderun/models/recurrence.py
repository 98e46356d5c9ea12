"""Linear recurrences as one operation: their loop leaves no graph, and the way back is a loop of the same kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class DiagonalRecurrence(torch.autograd.Function):
    """h_k = exp(lambda dt_k) h_(k-1) + b_k from h_0 = b_0, for complex lambda [N], dt [K, B, 1] and b [K, B, N]."""

    @staticmethod
    def forward(ctx: Any, exponents: Tensor, gaps: Tensor, b: Tensor) -> Tensor:
        factors = torch.polar((exponents.real * gaps).exp(), exponents.imag * gaps)  # faster than a complex exp
        h = b.clone()
        for before, after, factor in zip(h[:-1], h[1:], factors[1:], strict=True):
            after.addcmul_(factor, before)
        ctx.save_for_backward(factors, gaps, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        factors, gaps, h = ctx.saved_tensors
        g = grads[0].conj_physical()  # conjugates throughout: then the factors need none
        for k in range(len(g) - 1, 0, -1):  # what h_(k-1) does to the loss through h_k
            g[k - 1].addcmul_(factors[k], g[k])
        moved = torch.view_as_real(g[1:] * factors[1:] * h[:-1])  # what a change of lambda dt_k does
        of_exponents = gaps[1:].reshape(1, -1) @ moved.reshape(-1, 2 * g.shape[-1])
        return torch.view_as_complex(of_exponents.view(-1, 2)).conj_physical(), None, g.conj_physical()


class FlowRecurrence(torch.autograd.Function):
    """z_k = (I + A_k + A_k^2 / 2 + ... + A_k^p / p!) z_(k-1), the flow of dz = A_k z by its series.

    A is [K, n, n, N] and z_0 [n, N], which gives z_0 ... z_K [K + 1, n, N]; N counts independent equations. The powers
    act on the vector by Horner's rule, w_(j-1) = z + A w_j / j from w_p = z to w_0, the next z.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor, start: Tensor, order: int) -> Tensor:
        w = start.new_empty(len(matrices), order, *start.shape)  # w_1 ... w_p of every step
        states = start.new_empty(len(matrices) + 1, *start.shape)
        states[0] = start
        for matrix, held, z, following in zip(matrices, w, states[:-1], states[1:], strict=True):
            held[-1] = z
            for j in range(order, 0, -1):
                target = following if j == 1 else held[j - 2]
                torch.add(z, torch.mul(matrix, held[j - 1]).sum(1), alpha=1 / j, out=target)
        ctx.save_for_backward(matrices, w)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        matrices, w = ctx.saved_tensors
        of_matrices, g = torch.zeros_like(matrices), grads[0][-1]
        for k in range(len(matrices) - 1, -1, -1):
            total = grads[0][k] + g
            for j, held in enumerate(w[k], 1):
                g = g / j
                of_matrices[k].addcmul_(g.unsqueeze(1), held)
                g = torch.mul(matrices[k], g.unsqueeze(1)).sum(0)
                total += g
            g = total
        return of_matrices, g, None
