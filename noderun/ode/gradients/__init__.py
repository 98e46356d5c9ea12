"""Gradient methods: how dL/dtheta passes through a solve. ``GRADIENTS`` names them all.

A method is one class in a module of its name, a frozen dataclass whose fields are its options; see ``Gradient``.
"""

from __future__ import annotations

from noderun.ode.gradients.adjoint import Adjoint
from noderun.ode.gradients.backprop import Backprop
from noderun.ode.gradients.checkpointed import Checkpointed
from noderun.ode.gradients.forward import Forward
from noderun.ode.gradients.gradient import Gradient
from noderun.ode.gradients.interpolated import Interpolated
from noderun.ode.gradients.reversible import Reversible
from noderun.ode.gradients.symplectic import Symplectic
from noderun.ode.solvers import METHODS

GRADIENTS: dict[str, type[Gradient]] = {
    gradient.name: gradient
    for gradient in (
        Backprop,
        Adjoint,
        Interpolated,
        Checkpointed,
        Symplectic,
        Reversible,
        Forward,
    )
}


def refusal(solver: str, gradient: str) -> str | None:
    """Why this gradient cannot be taken through this solver, in one sentence; None if it can."""
    return GRADIENTS[gradient]().refusal(METHODS[solver])


__all__ = [
    "GRADIENTS",
    "Adjoint",
    "Backprop",
    "Checkpointed",
    "Forward",
    "Gradient",
    "Interpolated",
    "Reversible",
    "Symplectic",
    "refusal",
]
