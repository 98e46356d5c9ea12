"""The methods that can step many samples at once, each with its own step size."""

from __future__ import annotations

from torch import Tensor

from noderun.ode.solvers.collocation import CollocationMethod
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.per_sample.collocation import BatchedCollocation, BatchedRadau5
from noderun.ode.solvers.per_sample.dirk import BatchedDirk
from noderun.ode.solvers.per_sample.rosenbrock import BatchedRosenbrock
from noderun.ode.solvers.per_sample.runge_kutta import BatchedRungeKutta
from noderun.ode.solvers.per_sample.step import BatchedMethod
from noderun.ode.solvers.radau5 import Radau5
from noderun.ode.solvers.rosenbrock import Rosenbrock
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta


def batched_method(method: Method, control: StepOptions, like: Tensor) -> BatchedMethod:
    """The method for many samples; ValueError if there is none."""
    if isinstance(method, ExplicitRungeKutta):
        return BatchedRungeKutta(method, control, like)
    if isinstance(method, DiagonallyImplicit):
        return BatchedDirk(method, control, like)
    if isinstance(method, Rosenbrock):
        return BatchedRosenbrock(method, control, like)
    if isinstance(method, Radau5):
        return BatchedRadau5(method, control, like)
    if isinstance(method, CollocationMethod):
        return BatchedCollocation(method, control, like)
    near = "kvaerno5" if method.info.implicit else "tsit5"
    raise ValueError(
        f"per_sample=True takes Runge-Kutta and Rosenbrock methods; '{method.name}' is not one: try '{near}'"
    )
