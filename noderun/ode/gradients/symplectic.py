"""The symplectic adjoint method of Matsubara, Miyatake, Yaguchi 2021: checkpoints, and one graph of f at a time."""

from __future__ import annotations

from dataclasses import dataclass

from noderun.ode.gradients.checkpointed import ReplayedSteps
from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint
from noderun.ode.gradients.stagewise import SingleStageAdjoint, has_stages
from noderun.ode.solvers.method import Method


@dataclass(frozen=True)
class Symplectic(ReplayedSteps):
    """``Checkpointed`` with one stage in memory at a time, for explicit Runge-Kutta methods.

    A step's stages are computed first, without graphs. Each stage is then evaluated once more, with its graph, when
    the backward recursion reaches it. The backward pass therefore holds the activations of a single call of f, at the
    cost of one more evaluation of f per stage. The transposed tableau is a symplectic partner of the forward one, hence
    the name.

    ``checkpoints`` is how many states are held, from 1; None holds the state of every accepted step.
    """

    name = "symplectic"
    exact = True
    memory = "one state per accepted step, or `checkpoints` states"
    source = "Matsubara, Miyatake, Yaguchi 2021; Sanz-Serna 2016"
    description = "checkpointed, replayed stage by stage: the least memory of the exact methods while it runs"

    def refusal(self, method: Method) -> str | None:
        if has_stages(method.uncompiled):
            return None
        return super().refusal(method) or (
            "gradient='symplectic' goes back over the stages of an explicit Runge-Kutta tableau, which solver "
            f"'{method.name}' does not have: use gradient='checkpointed'"
        )

    def adjoint_class(self, method: Method) -> type[DiscreteAdjoint]:
        return SingleStageAdjoint
