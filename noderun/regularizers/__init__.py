"""Penalties that make a field cheap to solve, integrated beside the state.

A regularizer is called with a solve's y0 [B, ...] (to draw what stays fixed for that solve) and returns the integrand:
(f, t, y) -> (dy/dt, dr/dt [B]), per dimension of the state, so that a weight means the same at every width. Those that
ask the solver (error, stiffness) are ``Local``: they look at one step at a random time.
"""

from collections.abc import Callable

from noderun.regularizers.jacobian import Jacobian
from noderun.regularizers.kinetic import Kinetic
from noderun.regularizers.local import ErrorEstimate, Local, Stiffness
from noderun.regularizers.quadrature import Quadrature, Regularizer
from noderun.regularizers.taynode import TayNODE

REGULARIZERS: dict[str, Callable[..., Regularizer | Local]] = {
    "error": ErrorEstimate,
    "jacobian": Jacobian,
    "kinetic": Kinetic,
    "stiffness": Stiffness,
    "taynode": TayNODE,
}

__all__ = ["REGULARIZERS", "Local", "Quadrature", "Regularizer"]
