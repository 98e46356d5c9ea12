"""The symplectic adjoint method of Matsubara, Miyatake, Yaguchi 2021: checkpoints, and one graph of f at a time.

The transposed tableau is a symplectic partner of the forward one, so the gradient of the discrete solve comes out of a
Runge-Kutta step backwards over the stages. A step's stages are computed first, without graphs; then each is evaluated
once more, with its graph, when its turn comes: the memory of one f instead of all stages, for one more f a stage.
"""

from __future__ import annotations

import functools

from torch import Tensor

from noderun.ode.gradients.checkpointed import Checkpointed
from noderun.ode.gradients.info import GradientInfo, GradientOptions
from noderun.ode.gradients.stagewise import SingleStageReversal
from noderun.ode.solvers.integrate import Problem

INFO = GradientInfo(
    exact=True,
    held="the state at every accepted step, or at `checkpoints` of them",
    source="Matsubara, Miyatake, Yaguchi 2021; Sanz-Serna 2016",
    description="checkpointed, replayed stage by stage: the least memory of the exact methods while it runs",
    options=("checkpoints",),
)


def solve(backward: GradientOptions, problem: Problem) -> Tensor:
    """ys [rows, N]."""
    reversal = functools.partial(SingleStageReversal, "symplectic")
    return Checkpointed.apply(problem, backward.checkpoints, reversal, problem.y0, *problem.params)
