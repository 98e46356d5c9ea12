"""Gradient methods for SDEs: those of ``noderun.ode`` on the same path, and the adjoint as a Stratonovich equation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from noderun.ode.gradients import Adjoint, Backprop, Checkpointed, Gradient, Reversible
from noderun.ode.gradients.solve_function import Gradients, Recorded
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate
from noderun.ode.solvers.method import Method
from noderun.sde.field import sde_field, with_stratonovich_drift
from noderun.sde.solvers import METHODS, SOLVERS, Doubled


@dataclass(frozen=True)
class SDEAdjoint(Adjoint):
    """The adjoint SDE, solved backwards in time on the same path by Heun's method; Li et al. 2020, theorem 3.

        dz = f dt + g o dW,    da = -a^T (df/dz dt + dg/dz o dW)
        dL/dtheta = -int a^T (df/dtheta dt + dg/dtheta o dW)

    Stratonovich's calculus is the same in both directions of time, so an Ito equation goes back with its Stratonovich
    drift. The steps are those of the forward solve. The gradient is that of the SDE, not of the numbers that the
    forward solve returned: it differs from ``Checkpointed``'s by the error of the steps.
    """

    memory = "the outputs only, and the step sizes on the host"
    source = "Li, Wong, Chen, Duvenaud 2020, Scalable Gradients for Stochastic Differential Equations"
    description = "state and adjoint integrated backwards on the same path; memory independent of the number of steps"

    def record(self, problem: Problem) -> Recorded:
        ends = [problem.ts[0]]

        def observe(taken: AcceptedStep) -> None:
            if isinstance(problem.method, Doubled):  # which made two steps
                ends.append(taken.step.t + taken.step.h / 2)
            ends.append(taken.t_end)

        ys = integrate(problem, observe)
        return problem.shaped(ys), (ys, *problem.params), (list(problem.outputs.times), ends)

    def pull_back(self, problem: Problem, saved: list[Tensor], kept: Any, ys_grad: Tensor) -> Gradients:
        times, ends = kept
        field = sde_field(problem.field)
        if field.interpretation == "ito" and field.noise.type != "additive":
            field = with_stratonovich_drift(field)
        control = replace(problem.control, dt=None, grid=tuple(sorted(ends)))
        backward = replace(problem, field=field, backward=control, adjoint_method=METHODS["heun"])
        return super().pull_back(backward, saved, times, ys_grad)


GRADIENTS: dict[str, type[Gradient]] = {
    gradient.name: gradient for gradient in (Backprop, Checkpointed, SDEAdjoint, Reversible)
}


def refusal(method: Method[Any], gradient: Gradient) -> str | None:
    """Why this gradient cannot be taken through the method, in one sentence; None if it can."""
    if not isinstance(gradient, tuple(GRADIENTS.values())):
        return f"gradient '{gradient.name}' is for ordinary equations: use {', '.join(map(repr, GRADIENTS))}"
    if isinstance(gradient, Reversible) and not method.info.reversible:
        able = [f"'{name}'" for name, info in SOLVERS.items() if info.reversible]
        return (
            f"gradient='reversible' undoes steps exactly, which solver '{method.name}' cannot: use {' or '.join(able)}"
        )
    return None
