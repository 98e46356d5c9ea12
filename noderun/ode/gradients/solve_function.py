"""The one torch.autograd.Function of all gradient methods: a solve with a backward pass of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.per_sample.problem import SampleProblem

# the result, the tensors to save for the backward pass, and whatever else it needs (numbers and Python objects)
Recorded = tuple[Tensor, Sequence[Tensor], Any]
Gradients = tuple[Tensor | None, Sequence[Tensor]]  # dL/dy0, and dL/dtheta of each of the problem's params


class SolveFunction(torch.autograd.Function):
    """The result of ``record(problem)``, differentiated by ``pull_back(problem, saved, kept, dL/dresult)``.

    The inputs are y0 and the problem's params. The parameters are among them so that their gradients leave through
    autograd and reach DDP's reducer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gradient: str,
        problem: Problem | SampleProblem,
        record: Callable[[Any], Recorded],
        pull_back: Callable[[Any, list[Tensor], Any, Tensor], Gradients],
        *inputs: Tensor,
    ) -> Tensor:
        result, saved, ctx.kept = record(problem)
        ctx.gradient, ctx.problem, ctx.pull_back = gradient, problem, pull_back
        ctx.save_for_backward(*saved)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        forbid_double_backward(ctx.gradient)
        y0_grad, param_grads = ctx.pull_back(ctx.problem, list(ctx.saved_tensors), ctx.kept, grads[0])
        return None, None, None, None, y0_grad, *param_grads


def forbid_double_backward(gradient: str) -> None:
    """RuntimeError if the backward pass itself is to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"gradient='{gradient}' can be differentiated once; use gradient='backprop' for more")
