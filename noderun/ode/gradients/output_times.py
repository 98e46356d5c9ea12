"""The gradient of a solution in its output times: dy(t_i)/dt_i = f(t_i, y(t_i)), and dy/dt_0 = -f(t_0, y_0).

It is the same for every gradient method and independent of the step sizes. Under ``create_graph`` f is evaluated with
its graph, so that a loss on dy/dt reaches what f and y depend on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rate = Callable[[Tensor, Tensor], Tensor]  # t and y -> dy/dt


class DifferentiableTimes(torch.autograd.Function):
    """ys [n, ..., N] with the derivative ``rate`` in the times [n, ...], called for the rows that the loss uses."""

    @staticmethod
    def forward(ctx: Any, rate: Rate, ys: Tensor, times: Tensor) -> Tensor:
        ctx.rate = rate
        result = ys.clone()
        ctx.save_for_backward(result, times)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        ys, times = ctx.saved_tensors
        (cotangents,) = grads
        time_grads, ys_grads = [torch.zeros_like(t) for t in times], list(cotangents)
        for i in (cotangents != 0).flatten(1).any(1).nonzero().flatten().tolist():
            there = torch.isfinite(ys[i].detach()).all(-1)  # a solve that failed did not reach every time
            if there.any():
                t, y = times[i].to(ys.device), ys[i]
                rate = ctx.rate(t, y)
                time_grads[i] = torch.where(there, (cotangents[i].conj() * rate).sum(-1).real, 0.0).to(times)
                ys_grads[i] = with_second_derivative(ys_grads[i], rate, t, y)
        return None, torch.stack(ys_grads), torch.stack(time_grads)


def with_second_derivative(cotangent: Tensor, rate: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The cotangent of y as a function of t: its derivative in t is (df/dy)^T times the cotangent."""
    if not (torch.is_grad_enabled() and rate.requires_grad and t.requires_grad):
        return cotangent
    (change,) = torch.autograd.grad(rate, y, cotangent, create_graph=True, allow_unused=True, materialize_grads=True)
    return cotangent + change * (t - t.detach()).to(y.dtype.to_real()).unsqueeze(-1)
