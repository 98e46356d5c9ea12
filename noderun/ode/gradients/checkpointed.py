"""The discrete adjoint from checkpoints: each accepted step is made again from its state, last to first.

Exact for the discrete solve like backprop, but between the forward and the backward pass only the states that steps
start from are held (of multistep methods with their history), and one step's graph is alive at a time. Zhuang et al.
2020; Griewank, Walther 2008, ch. 12.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.dependence import again, refuse_second
from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint, MakeAdjoint, StepRecord, StepState
from noderun.ode.gradients.info import GradientInfo, GradientOptions
from noderun.ode.gradients.schedule import Checkpoint, Checkpoints, last_to_first
from noderun.ode.gradients.stagewise import StagewiseAdjoint, has_stages
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate
from noderun.ode.solvers.method import Method

INFO = GradientInfo(
    exact=True,
    held="the state at every accepted step, or at `checkpoints` of them",
    source="Zhuang et al. 2020; Griewank, Walther 2008; Wang, Moin, Iaccarino 2009 (online schedule)",
    description="each accepted step replayed under autograd; exact at a fraction of backprop's memory",
    options=("checkpoints",),
)


def solve(backward: GradientOptions, problem: Problem) -> Tensor:
    """ys [rows, N]."""
    if backward.checkpoints is not None and problem.method.uses_newton and not problem.control.fixed:
        raise ValueError(
            f"the option checkpoints makes steps again, and solver '{problem.method.name}' finds adaptive ones by "
            "iteration to a tolerance only: leave it out, or give dt="
        )
    reversal = functools.partial(kind(problem.method), "checkpointed")
    return Checkpointed.apply(problem, backward.checkpoints, reversal, problem.y0, *problem.params)


def kind(method: Method) -> type[DiscreteAdjoint]:
    if method.compiles:
        from noderun.ode.gradients.compiled import CompiledReversal  # the compiler's import takes a second

        return CompiledReversal
    return StagewiseAdjoint if has_stages(method) else DiscreteAdjoint


class Checkpointed(torch.autograd.Function):
    """Parameters are inputs, so that their gradients leave through autograd (and reach DDP's reducer)."""

    @staticmethod
    def forward(
        ctx: Any, problem: Problem, limit: int | None, reversal: MakeAdjoint, y0: Tensor, *params: Tensor
    ) -> Tensor:
        moves: list[StepRecord] = []
        checkpoints, fixed = Checkpoints(limit), problem.control.fixed

        def observe(taken: AcceptedStep) -> None:
            checkpoints.offer(len(moves), StepState.of(taken, first=not moves, fixed=fixed))
            moves.append(StepRecord.of(taken))

        ys = integrate(problem, observe)
        ctx.problem, ctx.moves, ctx.limit, ctx.reversal = problem, moves, limit, reversal
        ctx.places, tensors = flattened(checkpoints)
        ctx.save_for_backward(ys, *params, *tensors)
        return problem.shaped(ys)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse_second("checkpointed")
        problem: Problem = ctx.problem
        ys, *tensors = ctx.saved_tensors
        checkpoints, cotangents = Checkpoints(ctx.limit), problem.flat(grads[0])
        checkpoints.held = rebuilt(ctx.places, tensors[len(problem.params) :], ctx.moves)
        with again(problem) as field:
            reversal: DiscreteAdjoint = ctx.reversal(problem, field, ys, cotangents)

            def advance(start: int, end: int, state: StepState) -> StepState:
                return replayed(reversal, field, ctx.moves[start : end + 1], state)

            moves, states = ctx.moves, last_to_first(checkpoints, len(ctx.moves), advance)
            pulls = ((moves[n], state, moves[n - 1] if n else None) for n, state in states)
            reversal.back(pulls, 1 if ctx.limit else None)  # where states are few they are made one at a time
        return None, None, None, reversal.a + cotangents[0], *reversal.thetas


def replayed(reversal: DiscreteAdjoint, field: VectorField, moves: list[StepRecord], state: StepState) -> StepState:
    """The state at the start of the last of ``moves`` from that of the first, without a graph."""
    method = reversal.method
    for move, following in zip(moves, moves[1:], strict=False):
        work = method.restore(state.y, state.past)
        y1 = method.step(field, move.t, state.y, move.h, work, estimate=False).y1
        method.accept(work)
        past = method.snapshot(work)
        state = StepState(y1, past and (past[0][: following.count], following.constants), [])
    return state


Place = tuple[int, int, int]  # index of the step, number of tensors of the past, number of those found by iteration


def flattened(checkpoints: Checkpoints) -> tuple[list[Place], list[Tensor]]:
    """The states held as tensors alone, which autograd takes into its keeping."""
    places: list[Place] = []
    tensors: list[Tensor] = []
    for checkpoint in checkpoints.held:
        state = checkpoint.state
        past = state.past[0] if state.past else []
        places.append((checkpoint.index, len(past), len(state.solved)))
        tensors.extend((state.y, *past, *state.solved))
    return places, tensors


def rebuilt(places: list[Place], tensors: list[Tensor], moves: list[StepRecord]) -> list[Checkpoint]:
    held, left = [], iter(tensors)
    for index, past, solved in places:
        y, *rest = (next(left) for _ in range(1 + past + solved))
        snapshot = (rest[:past], moves[index].constants) if index else None
        held.append(Checkpoint(index, 0.0, StepState(y, snapshot, rest[past:])))
    return held
