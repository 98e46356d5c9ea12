"""The library for stochastic differential equations dy = f(t, y) dt + g(t, y) dW, on the parts of ``noderun.ode``."""

from noderun.sde.brownian import BrownianPath
from noderun.sde.engine import SDESolution, sdesolve
from noderun.sde.gradients import GRADIENTS
from noderun.sde.solvers import METHODS, SOLVERS

__all__ = ["GRADIENTS", "METHODS", "SOLVERS", "BrownianPath", "SDESolution", "sdesolve"]
