"""The discrete adjoint from checkpoints: each accepted step is replayed under autograd, last to first.

Exact for the discrete solve like backprop, but only the states y at the accepted steps are held between the forward
and the backward pass, and one step's graph is alive at a time. Zhuang et al. 2020; Griewank, Walther 2008, ch. 12.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from noderun.gradients.info import GradientInfo
from noderun.solvers.control import Control
from noderun.solvers.integrate import Problem, Taken, integrate

INFO = GradientInfo(
    exact=True,
    held="the state at every accepted step",
    source="Zhuang et al. 2020; Griewank, Walther 2008",
    description="each accepted step replayed under autograd; exact at a fraction of backprop's memory",
)


def solve(control: Control, problem: Problem) -> Tensor:
    """ys [len(ts), N]."""
    return Checkpointed.apply(problem, problem.y0, *problem.params)


class Checkpointed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, y0: Tensor, *params: Tensor) -> Tensor:
        taken: list[tuple[float, float, list[tuple[int, float]]]] = []
        states: list[Tensor] = []

        def observe(accepted: Taken) -> None:
            taken.append((accepted.step.t, accepted.step.h, accepted.outputs))
            states.append(accepted.step.y)

        ys = integrate(problem, observe)
        ctx.problem, ctx.taken = problem, taken
        ctx.save_for_backward(*states)
        return ys

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("gradient='checkpointed' can be differentiated once; use gradient='backprop' for more")
        (cotangents,) = grads
        problem, stats = ctx.problem, ctx.problem.stats
        before = problem.field.nfe
        a = torch.zeros_like(cotangents[0])
        thetas = [torch.zeros_like(p) for p in problem.params]
        with problem.field.autocast.outside():
            for (t, h, outputs), y in zip(reversed(ctx.taken), reversed(ctx.saved_tensors), strict=True):
                a = pull_back(problem, t, h, y, a, [(cotangents[i], theta) for i, theta in outputs], thetas)
        stats.nfe_backward = (stats.nfe_backward or 0) + problem.field.nfe - before
        return None, a + cotangents[0], *thetas


def pull_back(
    problem: Problem,
    t: float,
    h: float,
    y: Tensor,
    a: Tensor,
    outputs: list[tuple[Tensor, float]],
    thetas: list[Tensor],
) -> Tensor:
    """dL/dy at a step's start from ``a`` = dL/dy at its end and the cotangents of the outputs inside it."""
    method, y = problem.method, y.detach().requires_grad_()
    inside = [(g, theta) for g, theta in outputs if theta < 1]
    a = sum((g for g, theta in outputs if theta == 1), a)
    with torch.enable_grad():
        work = method.start(y)
        step = method.step(problem.field, t, y, h, work, estimate=False)
        ends, cotangents = [step.y1], [a]
        if inside:
            ends.append(step.interpolate([theta for _, theta in inside]))
            cotangents.append(torch.stack([g for g, _ in inside]))
    grads = torch.autograd.grad(ends, (y, *problem.params), cotangents, allow_unused=True)
    used = [(total, g) for total, g in zip(thetas, grads[1:], strict=True) if g is not None]
    if used:
        torch._foreach_add_([total for total, _ in used], [g for _, g in used])
    return grads[0]
