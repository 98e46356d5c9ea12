"""The gradient of a solution in the times it was asked for: dy(t_i)/dt_i = f(t_i, y(t_i)), and -f(t_0, y_0) in t_0.

This holds for every gradient method alike, and no step size decision takes part in it. Under ``create_graph`` f is
evaluated with its graph, so that a loss on dy/dt reaches what f and y depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rate = Callable[[Tensor, Tensor], Tensor]  # t and y -> what y changes by with t


class AtTimes(torch.autograd.Function):
    """ys [n, ..., N] as functions of the times [n, ...], too, by ``rate``; f is called for rows that the loss uses."""

    @staticmethod
    def forward(ctx: Any, rate: Rate, ys: Tensor, times: Tensor) -> Tensor:
        ctx.rate = rate
        moved = ys.clone()
        ctx.save_for_backward(moved, times)
        return moved

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        ys, times = ctx.saved_tensors
        (cotangents,) = grads
        shares, pulled = [torch.zeros_like(t) for t in times], list(cotangents)
        for i in (cotangents != 0).flatten(1).any(1).nonzero().flatten().tolist():
            there = torch.isfinite(ys[i].detach()).all(-1)  # a solve that failed did not come to every time
            if there.any():
                t, y = times[i].to(ys.device), ys[i]
                rate = ctx.rate(t, y)
                shares[i] = torch.where(there, (cotangents[i].conj() * rate).sum(-1).real, 0.0).to(times)
                pulled[i] = later(pulled[i], rate, t, y)
        return None, torch.stack(pulled), torch.stack(shares)


def later(cotangent: Tensor, rate: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The cotangent of y, which a second derivative in t changes by (df/dy)^T times itself."""
    if not (torch.is_grad_enabled() and rate.requires_grad and t.requires_grad):
        return cotangent
    (change,) = torch.autograd.grad(rate, y, cotangent, create_graph=True, allow_unused=True, materialize_grads=True)
    return cotangent + change * (t - t.detach()).to(y.dtype.to_real()).unsqueeze(-1)
