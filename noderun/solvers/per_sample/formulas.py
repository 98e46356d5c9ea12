"""Which methods can step many samples at once, each by a step size of its own."""

from __future__ import annotations

from torch import Tensor

from noderun.solvers.collocation import Collocation
from noderun.solvers.control import Control
from noderun.solvers.dirk import DiagonallyImplicit
from noderun.solvers.method import Method
from noderun.solvers.per_sample.collocation import Collocated, RadauFormula
from noderun.solvers.per_sample.dirk import Diagonal
from noderun.solvers.per_sample.explicit import Explicit
from noderun.solvers.per_sample.rosenbrock import Linear
from noderun.solvers.per_sample.step import Formula
from noderun.solvers.radau5 import Radau5
from noderun.solvers.rosenbrock import Rosenbrock
from noderun.solvers.runge_kutta import ExplicitRungeKutta


def formula_of(method: Method, control: Control, like: Tensor) -> Formula:
    """The method for many samples; ValueError where there is none."""
    if isinstance(method, ExplicitRungeKutta):
        return Explicit(method, control, like)
    if isinstance(method, DiagonallyImplicit):
        return Diagonal(method, control, like)
    if isinstance(method, Rosenbrock):
        return Linear(method, control, like)
    if isinstance(method, Radau5):
        return RadauFormula(method, control, like)
    if isinstance(method, Collocation):
        return Collocated(method, control, like)
    near = "kvaerno5" if method.info.implicit else "tsit5"
    raise ValueError(f"per_sample=True takes Runge-Kutta and Rosenbrock methods; '{method.name}' is none: try '{near}'")
