"""Backprop through a solver whose steps can be undone exactly.

Zhuang et al. 2021 (MALI, asynchronous leapfrog); Kidger et al. 2021 (reversible Heun).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint, StepRecord, StepState
from noderun.ode.gradients.gradient import CustomBackward
from noderun.ode.gradients.parameters import backward_field
from noderun.ode.gradients.solve_function import Gradients, Recorded
from noderun.ode.solvers import SOLVERS
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.reversible import Reversible as ReversibleMethod


@dataclass(frozen=True)
class Reversible(CustomBackward):
    """Constant memory with a solver whose steps can be undone: only the end of the solve and the step sizes are held.

    Each step's start is computed from its end, then the step is repeated under autograd. Rounding errors grow in the
    backward pass as differences of solutions do, like exp(L T) at worst. ``stats.reconstruction_error`` is the
    relative distance from y0 at which the backward pass arrived.
    """

    name = "reversible"
    exact = True
    memory = "three states, three more per restart of the solver's second track, and the step sizes on the host"
    source = "Zhuang et al. 2021; Kidger, Foster, Li, Lyons 2021"
    description = "steps back exactly with solvers that can; exact in constant memory while rounding errors stay small"

    def refusal(self, method: Method) -> str | None:
        if method.info.reversible:
            return None
        able = [f"'{name}'" for name, info in SOLVERS.items() if info.reversible]
        return (
            f"gradient='reversible' undoes steps exactly, which solver '{method.name}' cannot: use {' or '.join(able)}"
        )

    def record(self, problem: Problem) -> Recorded:
        if problem.control.jumps:
            raise ValueError("gradient='reversible' cannot step back over jump_ts: use gradient='checkpointed'")
        records: list[StepRecord] = []
        last: list[StepState] = []
        restarts: dict[int, StepState] = {}  # the last step on each track but the newest, by its number

        def observe(taken: AcceptedStep) -> None:
            if records and taken.past and not taken.past[0]:  # the solver started its second track anew
                restarts[len(records) - 1] = last[0]
            last[:] = [StepState.of(taken, first=not records, fixed=True)]
            records.append(StepRecord.of(taken))

        ys = integrate(problem, observe)
        states = [*restarts.values(), last[0] if last else StepState(problem.y0, None, [])]
        ends = [(state.y, *(state.past[0] if state.past else ())) for state in states]
        saved = (ys, problem.y0, *problem.params, *(x for end in ends for x in end))
        return problem.shaped(ys), saved, (records, list(restarts), [len(end) for end in ends])

    def pull_back(self, problem: Problem, saved: list[Tensor], kept: Any, ys_grad: Tensor) -> Gradients:
        (ys, y0, *tensors), (records, restart_steps, counts) = saved, kept
        cotangents, left = problem.flat(ys_grad), iter(tensors[len(problem.params) :])
        *held, (y, *aux) = ([next(left) for _ in range(count)] for count in counts)
        restarts = dict(zip(restart_steps, held, strict=True))
        with backward_field(problem) as field:
            adjoint = DiscreteAdjoint(self.name, problem, field, ys, cotangents)
            assert isinstance(adjoint.method, ReversibleMethod)
            for n in reversed(range(len(records))):
                before, anew = records[n - 1] if n else None, n == 0 or n - 1 in restarts
                adjoint.pull_back_step(
                    records[n], StepState(y, None if anew else (aux, records[n].constants), []), before
                )
                if n - 1 in restarts:
                    y, *aux = restarts[n - 1]
                elif before:
                    y, aux = adjoint.method.reverse(field, before.t, before.h, y, aux)
        report_reconstruction(problem, y0, y)
        return adjoint.adjoint + cotangents[0], adjoint.param_grads


def report_reconstruction(problem: Problem, y0: Tensor, reached: Tensor) -> None:
    """Store the relative distance from y0 in the statistics; warn if it is large enough to spoil the gradient."""
    size = torch.linalg.vector_norm
    error = (size(reached - y0) / size(y0).clamp(min=torch.finfo(y0.dtype).tiny)).item()
    problem.stats.reconstruction_error = error
    if not error < torch.finfo(y0.dtype).eps ** 0.5:
        warnings.warn(
            f"gradient='reversible': the backward pass arrived {error:.1e} (relative) from y0, so the gradient is no "
            "longer exact; integrate over a shorter time, in float64, or use gradient='checkpointed'",
            RuntimeWarning,
            stacklevel=2,
        )
