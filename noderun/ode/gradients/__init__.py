"""How dL/dtheta passes through a solve; ``GRADIENTS`` names every method, ``refusal`` says which pairs cannot work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import Tensor

from noderun.ode.gradients import adjoint, backprop, checkpointed, forward, interpolated, reversible, symplectic
from noderun.ode.gradients.info import GradientInfo, GradientOptions
from noderun.ode.gradients.stagewise import has_stages
from noderun.ode.solvers import METHODS, SOLVERS
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.integrate import Problem
from noderun.ode.solvers.method import Info
from noderun.ode.solvers.splitting import Splitting

MODULES: dict[str, ModuleType] = {
    "backprop": backprop,
    "adjoint": adjoint,
    "interpolated": interpolated,
    "checkpointed": checkpointed,
    "symplectic": symplectic,
    "reversible": reversible,
    "forward": forward,
}
GRADIENTS: dict[str, GradientInfo] = {name: module.INFO for name, module in MODULES.items()}
SOLVES: dict[str, Callable[[GradientOptions, Problem], Tensor]] = {
    name: module.solve for name, module in MODULES.items()
}


def refusal(solver: str, info: Info, gradient: str) -> str | None:
    """Why this gradient cannot pass through this solver, in one sentence; None where it can."""
    if gradient == "reversible" and not info.reversible:
        able = [f"'{name}'" for name, other in SOLVERS.items() if other.reversible]
        return f"gradient='reversible' steps back exactly, which solver '{solver}' cannot: use {' or '.join(able)}"
    if solver == "scipy" and gradient != "adjoint":
        return f"autograd sees nothing of what scipy does, so gradient='{gradient}' cannot pass: use gradient='adjoint'"
    if isinstance(METHODS[solver], Splitting) and gradient in ("adjoint", "interpolated"):
        return f"solver '{solver}' splits a state (q, p), which the adjoint's state is not: use gradient='checkpointed'"
    if gradient == "symplectic" and not has_stages(METHODS[solver]):
        return (
            f"gradient='symplectic' goes back over the stages of an explicit Runge-Kutta tableau, which solver "
            f"'{solver}' has not: use gradient='checkpointed'"
        )
    if gradient == "forward" and METHODS[solver].uses_newton:
        return (
            f"gradient='forward' differentiates a step's own gradient, which solver '{solver}' has only once where it "
            "iterates: use gradient='checkpointed', or an explicit solver"
        )
    return None


def configured(gradient: str, control: StepOptions, options: Mapping[str, Any]) -> GradientOptions:
    """The choices of a backward pass; ValueError for an option that this gradient does not read."""
    takes = GRADIENTS[gradient].options
    for name in options:
        if name not in takes:
            there = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise ValueError(f"gradient '{gradient}' has no option '{name}'; {there}")
    return GradientOptions(control, **options)


__all__ = ["GRADIENTS", "SOLVES", "GradientOptions", "GradientInfo", "configured", "refusal"]
