"""Backprop where CUDA graphs make the steps: one graph makes an accepted step again and transposes it.

What autograd saves while a graph is captured lies at addresses of that graph, and its next replay, which is the next
step, overwrites it. Copies for each step would take two kernels per saved tensor, about as many as f itself has, so f
is evaluated again, as by ``Checkpointed``. A backward pass that is itself to be differentiated goes through eager
steps, which autograd records.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noderun.ode.gradients.checkpointed import Checkpointed
from noderun.ode.gradients.compiled import params_by_name
from noderun.ode.gradients.field_checks import examine_field
from noderun.ode.gradients.parameters import backward_field
from noderun.ode.gradients.solve_function import SolveFunction
from noderun.ode.solvers.captured.runge_kutta import CapturedRungeKutta
from noderun.ode.solvers.integrate import Problem, integrate
from noderun.ode.solvers.outputs import OutputIndex
from noderun.ode.solvers.statistics import Statistics


def is_replayed(problem: Problem) -> bool:
    """Whether CUDA graphs make the solve's steps and pull all of them back, for every tensor that f depends on."""
    method, named = problem.method, problem.named_params.values()
    if not isinstance(method, CapturedRungeKutta) or problem.events or problem.control.watched:
        return False
    if params_by_name(problem) is None or len(problem.params) < sum(p.requires_grad for p in named):
        return False
    if method.graphs(problem.field, problem.y0) is None:
        return False
    try:
        examine_field(problem)
    except ValueError:  # autograd sees tensors that f does not name
        return False
    return True


def replayed(problem: Problem) -> Tensor:
    """The rows of ``integrate(problem)``."""
    exact = Checkpointed()
    return RepeatedBackprop.apply("backprop", problem, exact.record, exact.pull_back, problem.y0, *problem.params)


class RepeatedBackprop(SolveFunction):
    """``SolveFunction`` that can be differentiated any number of times."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return SolveFunction.backward(ctx, *grads)
        problem, eager = ctx.problem, ctx.problem.method.uncompiled
        with backward_field(problem) as field:
            again = replace(problem, field=field, method=eager, stats=Statistics(), outputs=OutputIndex())
            rows = problem.shaped(integrate(again))
        inputs = (problem.y0, *problem.params)
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(torch.autograd.grad(rows, wanted, grads[0], create_graph=True, allow_unused=True))
        return None, None, None, None, *(next(found) if x.requires_grad else None for x in inputs)
