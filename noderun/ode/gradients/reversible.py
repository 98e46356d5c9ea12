"""Backprop through a solver that steps back exactly: nothing is held but the end of the solve and its step sizes.

Zhuang et al. 2021 (MALI, asynchronous leapfrog); Kidger et al. 2021 (reversible Heun). Each step's start is computed
from its end, then the step is made again under autograd. Rounding errors grow on the way back as differences of
solutions do, like exp(L T) at worst: the distance from y0 at the end is in the statistics.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.dependence import again, refuse_second
from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint, StepRecord, StepState
from noderun.ode.gradients.info import GradientInfo, GradientOptions
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate
from noderun.ode.solvers.reversible import Reversible as Stepwise

INFO = GradientInfo(
    exact=True,
    held="the last step's start, that of each restart of the solver's second track, and the step sizes on the host",
    source="Zhuang et al. 2021; Kidger, Foster, Li, Lyons 2021",
    description="steps back exactly with solvers that can; exact in constant memory while rounding errors stay small",
)


def solve(backward: GradientOptions, problem: Problem) -> Tensor:
    """ys [rows, N]."""
    if problem.control.jumps:
        raise ValueError("gradient='reversible' cannot step back over jump_ts: use gradient='checkpointed'")
    return Reversible.apply(problem, problem.y0, *problem.params)


class Reversible(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, y0: Tensor, *params: Tensor) -> Tensor:
        moves: list[StepRecord] = []
        last: list[StepState] = []
        restarts: dict[int, StepState] = {}  # the last step on each track but the newest, by its number

        def observe(taken: AcceptedStep) -> None:
            if moves and taken.past and not taken.past[0]:  # the solver started its second track anew
                restarts[len(moves) - 1] = last[0]
            last[:] = [StepState.of(taken, first=not moves, fixed=True)]
            moves.append(StepRecord.of(taken))

        ys = integrate(problem, observe)
        ctx.problem, ctx.moves, ctx.restarts = problem, moves, list(restarts)
        states = [*restarts.values(), last[0] if last else StepState(y0, None, [])]
        ends = [(state.y, *(state.past[0] if state.past else ())) for state in states]
        ctx.counts = [len(end) for end in ends]
        ctx.save_for_backward(ys, y0, *params, *(x for end in ends for x in end))
        return problem.shaped(ys)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second("reversible")
        problem, moves, cotangents = ctx.problem, ctx.moves, ctx.problem.flat(grads[0])
        ys, y0, *tensors = ctx.saved_tensors
        left = iter(tensors[len(problem.params) :])
        *held, (y, *aux) = ([next(left) for _ in range(count)] for count in ctx.counts)
        restarts = dict(zip(ctx.restarts, held, strict=True))
        with again(problem) as field:
            reversal = DiscreteAdjoint("reversible", problem, field, ys, cotangents)
            assert isinstance(reversal.method, Stepwise)
            for n in reversed(range(len(moves))):
                before, anew = moves[n - 1] if n else None, n == 0 or n - 1 in restarts
                reversal.pull(moves[n], StepState(y, None if anew else (aux, moves[n].constants), []), before)
                if n - 1 in restarts:
                    y, *aux = restarts[n - 1]
                elif before:
                    y, aux = reversal.method.reverse(field, before.t, before.h, y, aux)
        record(problem, y0, y)
        return None, reversal.a + cotangents[0], *reversal.thetas


def record(problem: Problem, y0: Tensor, reached: Tensor) -> None:
    """Log how far from y0 the way back ended, relative to it; warn where that spoils the gradient."""
    size = torch.linalg.vector_norm
    error = (size(reached - y0) / size(y0).clamp(min=torch.finfo(y0.dtype).tiny)).item()
    problem.stats.reconstruction_error = error
    if not error < torch.finfo(y0.dtype).eps ** 0.5:
        warnings.warn(
            f"gradient='reversible': the way back ended {error:.1e} (relative) from y0, so the gradient is no longer "
            "exact; integrate over a shorter time, in float64, or use gradient='checkpointed'",
            RuntimeWarning,
            stacklevel=2,
        )
