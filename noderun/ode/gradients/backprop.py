"""Autograd through the accepted steps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from noderun.ode.gradients import per_sample_discrete
from noderun.ode.gradients.gradient import Gradient
from noderun.ode.solvers.integrate import Problem, integrate
from noderun.ode.solvers.per_sample.problem import SampleProblem


@dataclass(frozen=True)
class Backprop(Gradient):
    """Autograd through the accepted steps: exact for the discrete solve, and differentiable any number of times.

    It is the fastest method, because the backward pass does not call f. Its memory is the activations of every call
    of f in an accepted step; rejected steps leave nothing behind. On a GPU, where CUDA graphs make the steps, it holds
    one state per step and calls f again, as ``Checkpointed`` does.
    """

    name = "backprop"
    exact = True
    recorded_by_autograd = True
    memory = "the graph of every accepted step"
    source = "Rumelhart, Hinton, Williams 1986"
    description = "autograd through the accepted steps; differentiable twice"

    def solve(self, problem: Problem) -> Tensor:
        from noderun.ode.gradients.replayed import is_replayed, replayed

        return replayed(problem) if is_replayed(problem) else integrate(problem)

    def solve_per_sample(self, problem: SampleProblem) -> Tensor:
        return per_sample_discrete.backprop(problem)

    def refusal_per_sample(self) -> None:
        return None
