"""The discrete adjoint: dL/dy and dL/dtheta carried back over the accepted steps, each of them made again.

A step is a function of its start y, of what the method remembers of earlier steps (the tensors of its snapshot) and of
theta. The step sizes are constants, so its transpose is all that the gradient of the discrete solve needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.examination import differs, refuse_other
from noderun.ode.solvers.field import VectorField, evaluate
from noderun.ode.solvers.integrate import AcceptedStep, Problem
from noderun.ode.solvers.method import Snapshot
from noderun.ode.solvers.torch_internals import add_to_each

MakeAdjoint = Callable[[Problem, VectorField, Tensor, Tensor], "DiscreteAdjoint"]


@dataclass(frozen=True)
class StepState:
    """What a step is made again from."""

    y: Tensor  # [N]
    past: Snapshot
    solved: list[Tensor]  # what it found by iteration

    @staticmethod
    def of(taken: AcceptedStep, first: bool, fixed: bool) -> StepState:
        """The first step starts from y0 alone; fixed steps iterate to round-off and need nothing found."""
        return StepState(taken.step.y, None if first else taken.past, [] if fixed else taken.step.newton_stages)


@dataclass(frozen=True)
class StepRecord:
    """An accepted step as numbers on the host: (row of ys, theta) of the outputs read off it."""

    t: float
    h: float
    end: float
    outputs: list[tuple[int, float]]
    count: int  # of the snapshot's tensors that the step used
    constants: Any  # of the snapshot: orders and step sizes were chosen when the solve went forward

    @staticmethod
    def of(taken: AcceptedStep) -> StepRecord:
        tensors, constants = taken.past or ([], None)
        return StepRecord(taken.step.t, taken.step.h, taken.t_end, taken.outputs, len(tensors), constants)

    @property
    def inside(self) -> list[tuple[int, float]]:
        return [(row, theta) for row, theta in self.outputs if theta < 1]


StepPullback = tuple[
    StepRecord, StepState, StepRecord | None
]  # a step, what it is made again from, and the step whose turn is next


class DiscreteAdjoint:
    """``a`` = dL/dy [N] at the start of the last step pulled back, ``thetas`` = dL/dtheta of all steps so far."""

    def __init__(self, gradient: str, problem: Problem, field: VectorField, ys: Tensor, cotangents: Tensor) -> None:
        self.gradient, self.field, self.problem, self.params = gradient, field, problem, problem.params
        self.method = problem.method.with_tolerances(problem.control)
        self.ys: Tensor | None = ys  # until the first step made again was compared with it
        self.cotangents = cotangents
        self.a = torch.zeros_like(cotangents[0])
        self.past: list[Tensor | None] = []  # dL/d(snapshot)
        self.thetas = [torch.zeros_like(p) for p in problem.params]

    def back(self, pulls: Iterable[StepPullback], most: int | None = None) -> None:
        """Over all steps, last to first, looking at no more than ``most`` of them at a time."""
        for move, state, before in pulls:
            self.pull(move, state, before)

    def pull(self, move: StepRecord, state: StepState, before: StepRecord | None) -> None:
        """From the end of a step to its start, under autograd through the step as the method makes it."""
        y, past = state.y.detach().requires_grad_(), None
        if state.past is not None:
            past = ([x.detach().requires_grad_() for x in state.past[0]], state.past[1])
        with torch.enable_grad():
            ends, cotangents = self.ends(move, StepState(y, past, state.solved))
        leaves = (y, *(past[0] if past else ()), *self.params)
        grads = torch.autograd.grad(ends, leaves, cotangents, allow_unused=True)
        split = len(leaves) - len(self.params)
        self.a = torch.zeros_like(y) if grads[0] is None else grads[0]
        self.past = list(grads[1:split])
        self.add(grads[split:])

    def ends(self, move: StepRecord, state: StepState) -> tuple[list[Tensor], list[Tensor]]:
        """What the step yields and later steps or outputs use, and the cotangent of each."""
        y, work = state.y, self.method.restore(state.y, state.past, state.solved)
        step = self.method.step(self.field, move.t, y, move.h, work, estimate=False)
        ends: list[Tensor] = [step.y1]
        cotangents: list[Tensor | None] = [self.end_cotangent(move)]
        inside = move.inside
        if inside:
            ends.append(step.interpolate([theta for _, theta in inside]))
            cotangents.append(self.cotangents[[row for row, _ in inside]])
        self.compare(move, y, step.y1, ends[-1])
        if self.past:
            self.method.accept(work)
            snapshot = self.method.snapshot(work)
            assert snapshot is not None
            ends.extend(snapshot[0][: len(self.past)])
            cotangents.extend(self.past)
        used = [(end, g) for end, g in zip(ends, cotangents, strict=True) if g is not None and end.requires_grad]
        return [end for end, _ in used], [g for _, g in used]

    def end_cotangent(self, move: StepRecord) -> Tensor:
        return sum((self.cotangents[row] for row, theta in move.outputs if theta == 1), self.a)

    def compare(self, move: StepRecord, y: Tensor, y1: Tensor, inside: Tensor) -> None:
        """RuntimeError for an f that is not as it was, at the first step made again that has an output."""
        if self.ys is None or not move.outputs:
            return
        row, theta = move.outputs[-1]
        now = y1 if theta == 1 else inside.reshape(-1, len(y))[-1]
        y, then = y.detach(), self.ys[row]
        self.ys = None
        if differs(y, then, now.detach(), self.field.autocast.dtype, self.method.uses_newton):
            refuse_other(self.gradient, *(evaluate(self.field, move.t, y) for _ in range(2)))

    def add(self, grads: tuple[Tensor | None, ...]) -> None:
        used = [(total, g) for total, g in zip(self.thetas, grads, strict=True) if g is not None]
        if used:
            add_to_each([total for total, _ in used], [g for _, g in used])
