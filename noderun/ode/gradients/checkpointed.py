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
from noderun.ode.gradients.info import Backward, GradientInfo
from noderun.ode.gradients.reversal import MakeReversal, Move, Reversal, State
from noderun.ode.gradients.schedule import Checkpoint, Checkpoints, last_to_first
from noderun.ode.gradients.stagewise import StagewiseReversal, has_stages
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.integrate import Problem, Taken, integrate
from noderun.ode.solvers.method import Method

INFO = GradientInfo(
    exact=True,
    held="the state at every accepted step, or at `checkpoints` of them",
    source="Zhuang et al. 2020; Griewank, Walther 2008; Wang, Moin, Iaccarino 2009 (online schedule)",
    description="each accepted step replayed under autograd; exact at a fraction of backprop's memory",
    options=("checkpoints",),
)


def solve(backward: Backward, problem: Problem) -> Tensor:
    """ys [rows, N]."""
    if backward.checkpoints is not None and problem.method.iterates and not problem.control.fixed:
        raise ValueError(
            f"the option checkpoints makes steps again, and solver '{problem.method.name}' finds adaptive ones by "
            "iteration to a tolerance only: leave it out, or give dt="
        )
    reversal = functools.partial(kind(problem.method), "checkpointed")
    return Checkpointed.apply(problem, backward.checkpoints, reversal, problem.y0, *problem.params)


def kind(method: Method) -> type[Reversal]:
    if method.compiles:
        from noderun.ode.gradients.compiled import CompiledReversal  # the compiler's import takes a second

        return CompiledReversal
    return StagewiseReversal if has_stages(method) else Reversal


class Checkpointed(torch.autograd.Function):
    """Parameters are inputs, so that their gradients leave through autograd (and reach DDP's reducer)."""

    @staticmethod
    def forward(
        ctx: Any, problem: Problem, limit: int | None, reversal: MakeReversal, y0: Tensor, *params: Tensor
    ) -> Tensor:
        moves: list[Move] = []
        checkpoints, fixed = Checkpoints(limit), problem.control.fixed

        def observe(taken: Taken) -> None:
            checkpoints.offer(len(moves), State.of(taken, first=not moves, fixed=fixed))
            moves.append(Move.of(taken))

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
            reversal: Reversal = ctx.reversal(problem, field, ys, cotangents)

            def advance(start: int, end: int, state: State) -> State:
                return replayed(reversal, field, ctx.moves[start : end + 1], state)

            moves, states = ctx.moves, last_to_first(checkpoints, len(ctx.moves), advance)
            pulls = ((moves[n], state, moves[n - 1] if n else None) for n, state in states)
            reversal.back(pulls, 1 if ctx.limit else None)  # where states are few they are made one at a time
        return None, None, None, reversal.a + cotangents[0], *reversal.thetas


def replayed(reversal: Reversal, field: VectorField, moves: list[Move], state: State) -> State:
    """The state at the start of the last of ``moves`` from that of the first, without a graph."""
    method = reversal.method
    for move, following in zip(moves, moves[1:], strict=False):
        work = method.restore(state.y, state.past)
        y1 = method.step(field, move.t, state.y, move.h, work, estimate=False).y1
        method.accept(work)
        past = method.snapshot(work)
        state = State(y1, past and (past[0][: following.count], following.constants), [])
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


def rebuilt(places: list[Place], tensors: list[Tensor], moves: list[Move]) -> list[Checkpoint]:
    held, left = [], iter(tensors)
    for index, past, solved in places:
        y, *rest = (next(left) for _ in range(1 + past + solved))
        snapshot = (rest[:past], moves[index].constants) if index else None
        held.append(Checkpoint(index, 0.0, State(y, snapshot, rest[past:])))
    return held
