"""Tangents carried along with the accepted steps; Wengert 1964.

A step's Jacobian-vector product comes from two vector-Jacobian products: the first is linear in its cotangent, and its
transpose is the product sought. Every solver and every f that autograd can differentiate will therefore do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from noderun.ode.gradients.field_checks import differs, raise_changed
from noderun.ode.gradients.gradient import CustomBackward
from noderun.ode.gradients.solve_function import Gradients, Recorded
from noderun.ode.solvers.field import evaluate
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate
from noderun.ode.solvers.method import Method, Snapshot

MOST_TANGENTS = 100  # each costs a pass through every step: beyond, minutes and gigabytes for one small net


@dataclass(frozen=True)
class Forward(CustomBackward):
    """Forward-mode derivatives, for a few parameters and a small state; the backward pass then does not call f.

    One tangent per number that requires a gradient, in the parameters and in y0, is carried through every accepted
    step, at most 100 of them.
    """

    name = "forward"
    exact = True
    memory = "derivatives of the outputs: outputs x state x (parameters, and the size of y0 if it requires a gradient)"
    source = "Wengert 1964; Griewank, Walther 2008, ch. 3"
    description = "tangents of the accepted steps, for few parameters; the backward pass does not call f"

    def refusal(self, method: Method) -> str | None:
        if method.uses_newton:
            return (
                f"gradient='forward' differentiates a step's own gradient, and the iteration of solver '{method.name}' "
                "can be differentiated once only: use gradient='checkpointed', or an explicit solver"
            )
        return super().refusal(method)

    def record(self, problem: Problem) -> Recorded:
        inputs = [x for x in (problem.y0, *problem.params) if x.requires_grad]
        if any(x.is_complex() for x in inputs):
            raise TypeError("gradient='forward' is for real parameters and y0; use gradient='checkpointed'")
        tangents = sum(x.numel() for x in inputs)
        if tangents > MOST_TANGENTS:
            raise ValueError(
                f"gradient='forward' would carry {tangents} tangents, one per number of the parameters and of y0 that "
                f"requires a gradient; it takes up to {MOST_TANGENTS}: use gradient='checkpointed', which is as exact"
            )
        of_y0 = problem.y0.requires_grad
        carried = Tangents(problem, of_y0)
        ys = integrate(problem, carried.push)
        return problem.shaped(ys), list(carried.outputs.values()), (list(carried.outputs), of_y0)

    def pull_back(self, problem: Problem, saved: list[Tensor], kept: Any, ys_grad: Tensor) -> Gradients:
        (rows, of_y0), cotangents = kept, problem.flat(ys_grad)
        pairs = zip(rows, saved, strict=True)
        total = torch.stack([tangent.conj() @ cotangents[row] for row, tangent in pairs]).sum(0).real
        first = cotangents.shape[1] if of_y0 else 0
        parts = total[first:].split([p.numel() for p in problem.params])
        param_grads = [part.reshape(p.shape) for part, p in zip(parts, problem.params, strict=True)]
        return total[:first] if of_y0 else None, param_grads


class Tangents:
    """d(y, past)/d(inputs) at the end of the steps pushed so far; rows of tensors [D, ...]."""

    def __init__(self, problem: Problem, of_y0: bool) -> None:
        self.problem = problem
        self.method = problem.method.uncompiled.with_tolerances(problem.control)  # each step is differentiated twice
        y0, self.sizes = problem.y0, [p.numel() for p in problem.params]
        self.first = y0.numel() if of_y0 else 0  # rows before those of the parameters
        self.y = y0.new_zeros(self.first + sum(self.sizes), y0.numel())
        self.y.fill_diagonal_(1 if of_y0 else 0)
        self.past: list[Tensor] = []
        self.outputs: dict[int, Tensor] = {0: self.y}  # row of ys -> [D, N]
        self.started = False

    def push(self, taken: AcceptedStep) -> None:
        step = taken.step
        past = taken.past if self.started else None
        inside = [(row, theta) for row, theta in taken.outputs if theta < 1]
        y = step.y.detach().clone().requires_grad_()
        leaves = [] if past is None else [x.detach().clone().requires_grad_() for x in past[0]]
        # Hooks around the whole solve (torch.utils.checkpoint) are not for the graphs that live for one step.
        with torch.enable_grad(), saved_tensors_hooks(lambda x: x, lambda x: x):
            ends = self.ends(taken, y, None if past is None else (leaves, past[1]), [theta for _, theta in inside])
            pushed = self.product(ends, [y, *leaves])
        self.started = True
        self.y, rest = pushed[0], pushed[1:]
        if inside:
            for i, (row, _) in enumerate(inside):
                self.outputs[row] = rest[0][:, i]
            rest = rest[1:]
        self.past = rest
        self.outputs.update({row: self.y for row, theta in taken.outputs if theta == 1})

    def ends(self, taken: AcceptedStep, y: Tensor, past: Snapshot, thetas: list[float]) -> list[Tensor]:
        """y1, the outputs inside the step, and what else the next step depends on."""
        field, method = self.problem.field, self.method
        work = method.restore(y, past, taken.step.newton_stages)
        step = method.step(field, taken.step.t, y, taken.step.h, work, estimate=False)
        dtype = field.autocast.dtype
        if not self.started and differs(y.detach(), taken.step.y1.detach(), step.y1.detach(), dtype):
            raise_changed("forward", *(evaluate(field, taken.step.t, y) for _ in range(2)))
        inside = [step.interpolate(thetas)] if thetas else []
        method.accept(work)
        snapshot = method.snapshot(work)
        return [step.y1, *inside, *(snapshot[0] if snapshot else ())]

    def product(self, ends: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
        """The tangents [D, ...] of the ends from those of the leaves and of the parameters."""
        params = self.problem.params
        cotangents = [torch.zeros_like(end).requires_grad_() for end in ends]
        used = [(end, u) for end, u in zip(ends, cotangents, strict=True) if end.requires_grad]
        pulled = torch.autograd.grad(
            [end for end, _ in used], (*leaves, *params), [u for _, u in used], create_graph=True, allow_unused=True
        )
        rows = []
        for d in range(len(self.y)):
            tangents = [self.y[d], *(past[d] for past in self.past), *self.unit(d)]
            pairs = [(v, x) for v, x in zip(pulled, tangents, strict=True) if v is not None and v.requires_grad]
            rows.append(
                torch.autograd.grad(
                    [v for v, _ in pairs],
                    cotangents,
                    [x for _, x in pairs],
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
            )
        if not rows:  # nothing to differentiate by
            return [end.detach().new_zeros(0, *end.shape) for end in ends]
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def unit(self, d: int) -> list[Tensor]:
        """The tangent d of every parameter: 1 in one place of one of them."""
        units, place = [torch.zeros_like(p) for p in self.problem.params], d - self.first
        for unit in units:
            if 0 <= place < unit.numel():
                unit.view(-1)[place] = 1
            place -= unit.numel()
        return units
