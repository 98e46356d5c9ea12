"""The discrete adjoint: dL/dy and dL/dtheta carried back over the accepted steps, each of which is repeated.

A step is a function of its start y, of what the method remembers of earlier steps (the tensors of its snapshot) and of
theta. The step sizes are constants, so the transpose of the step is all that the gradient of the discrete solve needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.field_checks import differs, raise_changed
from noderun.ode.solvers.field import VectorField, evaluate
from noderun.ode.solvers.integrate import AcceptedStep, Problem
from noderun.ode.solvers.method import Snapshot
from noderun.ode.solvers.torch_internals import add_to_each


@dataclass(frozen=True)
class StepState:
    """What a step is repeated from."""

    y: Tensor  # [N]
    past: Snapshot
    solved: list[Tensor]  # the stages that it found by iteration

    @staticmethod
    def of(taken: AcceptedStep, first: bool, fixed: bool) -> StepState:
        """The first step starts from y0 alone; fixed steps iterate to round-off and need nothing found."""
        return StepState(taken.step.y, None if first else taken.past, [] if fixed else taken.step.newton_stages)


@dataclass(frozen=True)
class StepRecord:
    """An accepted step as numbers on the host, with (row of ys, theta) of each output that was read off it."""

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
        """The outputs before the step's end."""
        return [(row, theta) for row, theta in self.outputs if theta < 1]


# a step, what it is repeated from, and the step before it, whose turn comes next
StepToPullBack = tuple[StepRecord, StepState, StepRecord | None]


class DiscreteAdjoint:
    """``adjoint`` = dL/dy [N] at the start of the last step pulled back, ``param_grads`` = dL/dtheta of all so far."""

    def __init__(self, gradient: str, problem: Problem, field: VectorField, ys: Tensor, cotangents: Tensor) -> None:
        self.gradient, self.field, self.problem, self.params = gradient, field, problem, problem.params
        self.method = problem.method.with_tolerances(problem.control)
        self.ys: Tensor | None = ys  # until the first repeated step was compared with it
        self.cotangents = cotangents
        self.adjoint = torch.zeros_like(cotangents[0])
        self.past_adjoint: list[Tensor | None] = []  # dL/d(snapshot)
        self.param_grads = [torch.zeros_like(p) for p in problem.params]

    def pull_back(self, steps: Iterable[StepToPullBack], most: int | None = None) -> None:
        """Go over all steps, last to first, with at most ``most`` of them in hand."""
        for record, state, before in steps:
            self.pull_back_step(record, state, before)

    def pull_back_step(self, record: StepRecord, state: StepState, before: StepRecord | None) -> None:
        """Go from the end of a step to its start, by autograd through the repeated step."""
        y, past = state.y.detach().requires_grad_(), None
        if state.past is not None:
            past = ([x.detach().requires_grad_() for x in state.past[0]], state.past[1])
        with torch.enable_grad():
            ends, cotangents = self.ends(record, StepState(y, past, state.solved))
        leaves = (y, *(past[0] if past else ()), *self.params)
        grads = torch.autograd.grad(ends, leaves, cotangents, allow_unused=True)
        split = len(leaves) - len(self.params)
        self.adjoint = torch.zeros_like(y) if grads[0] is None else grads[0]
        self.past_adjoint = list(grads[1:split])
        self.add(grads[split:])

    def ends(self, record: StepRecord, state: StepState) -> tuple[list[Tensor], list[Tensor]]:
        """What later steps or outputs use of the repeated step, and the cotangent of each."""
        y, work = state.y, self.method.restore(state.y, state.past, state.solved)
        step = self.method.step(self.field, record.t, y, record.h, work, estimate=False)
        ends: list[Tensor] = [step.y1]
        cotangents: list[Tensor | None] = [self.end_cotangent(record)]
        inside = record.inside
        if inside:
            ends.append(step.interpolate([theta for _, theta in inside]))
            cotangents.append(self.cotangents[[row for row, _ in inside]])
        self.compare(record, y, step.y1, ends[-1])
        if self.past_adjoint:
            self.method.accept(work)
            snapshot = self.method.snapshot(work)
            assert snapshot is not None
            ends.extend(snapshot[0][: len(self.past_adjoint)])
            cotangents.extend(self.past_adjoint)
        used = [(end, g) for end, g in zip(ends, cotangents, strict=True) if g is not None and end.requires_grad]
        return [end for end, _ in used], [g for _, g in used]

    def end_cotangent(self, record: StepRecord) -> Tensor:
        """dL/dy1 [N]: the adjoint of the step after it and the cotangents of outputs at its end."""
        return sum((self.cotangents[row] for row, theta in record.outputs if theta == 1), self.adjoint)

    def compare(self, record: StepRecord, y: Tensor, y1: Tensor, inside: Tensor) -> None:
        """RuntimeError if f has changed, by the first repeated step that has an output."""
        if self.ys is None or not record.outputs:
            return
        row, theta = record.outputs[-1]
        now = y1 if theta == 1 else inside.reshape(-1, len(y))[-1]
        y, then = y.detach(), self.ys[row]
        self.ys = None
        if differs(y, then, now.detach(), self.field.autocast.dtype, self.method.uses_newton):
            raise_changed(self.gradient, *(evaluate(self.field, record.t, y) for _ in range(2)))

    def add(self, grads: tuple[Tensor | None, ...]) -> None:
        """Add one step's dL/dtheta."""
        used = [(total, g) for total, g in zip(self.param_grads, grads, strict=True) if g is not None]
        if used:
            add_to_each([total for total, _ in used], [g for _, g in used])
