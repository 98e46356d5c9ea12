"""How dL/dtheta passes through a solve; ``GRADIENTS`` names every method, ``refusal`` says which pairs cannot work."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from torch import Tensor

from noderun.gradients import adjoint, backprop, checkpointed
from noderun.gradients.info import GradientInfo
from noderun.solvers.control import Control
from noderun.solvers.integrate import Problem
from noderun.solvers.method import Info

MODULES: dict[str, ModuleType] = {"backprop": backprop, "adjoint": adjoint, "checkpointed": checkpointed}
GRADIENTS: dict[str, GradientInfo] = {name: module.INFO for name, module in MODULES.items()}
SOLVES: dict[str, Callable[[Control, Problem], Tensor]] = {name: module.solve for name, module in MODULES.items()}


def refusal(solver: str, info: Info, gradient: str) -> str | None:
    """Why this gradient cannot pass through this solver, in one sentence; None where it can."""
    return None


__all__ = ["GRADIENTS", "SOLVES", "GradientInfo", "refusal"]
