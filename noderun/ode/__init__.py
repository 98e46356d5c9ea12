"""The library: solve y' = f(t, y) with torch and differentiate the solve. It imports nothing else of noderun.

    from noderun.ode import solve

All public names of the library are here; ``noderun`` has the same ones, loaded at first use.
"""

from noderun.ode.engine import solve
from noderun.ode.gradients import (
    GRADIENTS,
    Adjoint,
    Backprop,
    Checkpointed,
    Forward,
    Gradient,
    Interpolated,
    Reversible,
    Symplectic,
)
from noderun.ode.per_sample import BatchedSolution
from noderun.ode.solvers import (
    CONTROLLERS,
    METHODS,
    SOLVERS,
    Event,
    Method,
    NewtonDivergence,
    NonFiniteDynamics,
    Occurrences,
    Solution,
    SolveError,
    Statistics,
    StepController,
    StepLimit,
    StepUnderflow,
)
from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.integrate import Problem, integrate
from noderun.ode.solvers.per_sample.problem import SampleStatistics
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau
from noderun.ode.torchdiffeq import odeint, odeint_adjoint, odeint_event

__all__ = [
    "Adjoint",
    "Backprop",
    "BatchedSolution",
    "ButcherTableau",
    "CONTROLLERS",
    "Checkpointed",
    "DiagonallyImplicit",
    "Event",
    "ExplicitRungeKutta",
    "Forward",
    "GRADIENTS",
    "Gradient",
    "Interpolated",
    "METHODS",
    "Method",
    "NewtonDivergence",
    "NonFiniteDynamics",
    "Occurrences",
    "Problem",
    "Reversible",
    "SOLVERS",
    "SampleStatistics",
    "Solution",
    "SolveError",
    "Statistics",
    "StepController",
    "StepLimit",
    "StepUnderflow",
    "Symplectic",
    "integrate",
    "odeint",
    "odeint_adjoint",
    "odeint_event",
    "solve",
]
