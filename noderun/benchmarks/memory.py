"""The suite memory: what each gradient method holds, and its peak, as the number of evaluations grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from noderun.benchmarks import libraries, problems
from noderun.benchmarks.case import Failure, as_arrays, distance, reason, require_agreement
from noderun.benchmarks.problems import Problem
from noderun.ode.engine import solve
from noderun.ode.gradients import GRADIENTS, refusal
from noderun.training.memory import MIB, PeakLedger

STAGES = {"rk4": 4, "reversible_heun": 1}  # solver -> evaluations per step; a gradient takes the first that it supports
ALLOWED = 1e-2  # relative error of the gradient with the most evaluations
Run = Callable[[Problem, Tensor], Tensor]


@dataclass(frozen=True)
class MemoryRow:
    """One gradient method at one number of fixed steps, in MiB; parameters, y0 and the returned ys are left out."""

    suite: str
    case: str
    contender: str
    nfe: int  # forward
    held_mib: float  # from the end of the forward to the start of the backward pass
    peak_mib: float  # the most that lived at once in both, the returned ys and gradients counted
    error: float  # of the gradient, relative, against a tight float64 solve


class Counted(nn.Module):
    """f with a count of its calls."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f, self.calls = f, 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return self.f(t, y)


def memory_rows(device: str, quick: bool) -> Iterator[list[MemoryRow] | Failure]:
    """One list per contender, or the reason why there is none."""
    problem = problems.mlp(4 if quick else 1024, 1e-3, device=device)
    problem = replace(problem, name=f"MLP 2-64-64-2, B = {len(problem.y0)}, fixed steps")
    truth = as_arrays(libraries.torch_gradient(problems.tight(problem), libraries.noderun_with("checkpointed"))())
    for name, run in contenders().items():
        try:
            rows = [
                measured(problem, name, run(nfe), truth) for nfe in ((24, 96) if quick else (40, 80, 160, 320, 640))
            ]
            require_agreement(rows[-1].error, ALLOWED)
        except Exception as error:
            yield Failure("memory", problem.name, name, reason(error))
        else:
            yield rows


def contenders() -> dict[str, Callable[[int], Run]]:
    """name -> NFE -> solve: all gradient methods but forward, whose time grows with the number of parameters."""
    found = {f"noderun {gradient}": noderun_by(gradient) for gradient in GRADIENTS if gradient != "forward"}
    if libraries.installed()["torchdiffeq"]:
        import torchdiffeq

        found["torchdiffeq backprop"] = torchdiffeq_by(torchdiffeq.odeint)
        found["torchdiffeq adjoint"] = torchdiffeq_by(torchdiffeq.odeint_adjoint)
    return found


def noderun_by(gradient: str) -> Callable[[int], Run]:
    solver = next(name for name in STAGES if not refusal(name, gradient))

    def run(nfe: int, problem: Problem, y0: Tensor) -> Tensor:
        dt = STAGES[solver] * problem.ts[-1] / nfe
        return solve(problem.f, y0, problem.ts, solver=solver, dt=dt, gradient=gradient).ys

    return lambda nfe: partial(run, nfe)


def torchdiffeq_by(ode: Callable[..., Tensor]) -> Callable[[int], Run]:
    def run(nfe: int, problem: Problem, y0: Tensor) -> Tensor:
        options = {"step_size": STAGES["rk4"] * problem.ts[-1] / nfe}
        return ode(problem.f, y0, problem.times, method="rk4", options=options)

    return lambda nfe: partial(run, nfe)


def measured(problem: Problem, name: str, run: Run, truth: list[np.ndarray]) -> MemoryRow:
    """One forward and one backward pass of the sum of squares of y(T), as the other suites have it."""
    f = Counted(problem.f)
    y0, params = problem.y0.clone().requires_grad_(), list(f.parameters())
    with PeakLedger(y0, *params) as ledger:
        ys = run(replace(problem, f=f), y0)
        held, nfe = ledger.held_bytes(y0, ys, *params), f.calls
        gradient = torch.autograd.grad(ys[1:].square().sum(), [y0, *params])
    error = distance(as_arrays(list(gradient)), truth)
    return MemoryRow("memory", problem.name, name, nfe, held / MIB, ledger.peak / MIB, error)
