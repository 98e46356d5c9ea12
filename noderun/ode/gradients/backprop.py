"""Autograd through the accepted steps: exact for the discrete solve, at the memory of every f on the way."""

from __future__ import annotations

from torch import Tensor

from noderun.ode.gradients.info import GradientInfo, GradientOptions
from noderun.ode.solvers.integrate import Problem, integrate

INFO = GradientInfo(
    exact=True,
    held="the graph of every accepted step",
    source="Rumelhart, Hinton, Williams 1986",
    description="autograd through the accepted steps; twice differentiable",
)


def solve(backward: GradientOptions, problem: Problem) -> Tensor:
    """ys [len(ts), N] with the graph of the solve behind them; rejected steps leave nothing."""
    return integrate(problem)
