"""Solvers of y' = f(t, y): methods, step control, dense output, statistics. ``SOLVERS`` names them all."""

from typing import Any

from noderun.ode.solvers import (
    adams,
    adams_bashforth,
    adams_moulton,
    adaptive_heun,
    asynchronous_leapfrog,
    auto,
    bdf,
    bosh3,
    dop853,
    dopri5,
    dopri8,
    euler,
    fehlberg2,
    fehlberg45,
    gauss4,
    gauss6,
    heun2,
    heun3,
    implicit_euler,
    implicit_midpoint,
    kvaerno3,
    kvaerno5,
    leapfrog,
    midpoint,
    radau3,
    radau5,
    ralston2,
    reversible_heun,
    richardson,
    rk4,
    rk4_38,
    rodas4,
    rosenbrock23,
    scipy,
    sdirk2,
    semi_implicit_euler,
    trapezoid,
    trbdf2,
    tsit5,
    yoshida4,
)
from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.errors import NewtonDivergence, NonFiniteDynamics, SolveError, StepLimit, StepUnderflow
from noderun.ode.solvers.events import Event, Occurrences
from noderun.ode.solvers.method import Info, Method
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.statistics import Solution, Statistics
from noderun.ode.solvers.step_size import CONTROLLERS, StepController
from noderun.ode.solvers.tableau import ButcherTableau

EXPLICIT = (euler, midpoint, heun2, ralston2, heun3, rk4, rk4_38)
EMBEDDED = (adaptive_heun, fehlberg2, bosh3, fehlberg45, dopri5, tsit5, dopri8, dop853)

IMPLICIT = (implicit_euler, trapezoid, implicit_midpoint, gauss4, gauss6, radau3, radau5)
STIFF = (sdirk2, trbdf2, kvaerno3, kvaerno5, rosenbrock23, rodas4, bdf, auto)
MULTISTEP = (adams_bashforth, adams_moulton, adams)
SYMPLECTIC = (semi_implicit_euler, leapfrog, yoshida4)
REVERSIBLE = (asynchronous_leapfrog, reversible_heun)

MODULES = (*EXPLICIT, *EMBEDDED, richardson, *MULTISTEP, *SYMPLECTIC, *REVERSIBLE, *IMPLICIT, *STIFF, scipy)

METHODS: dict[str, Method[Any]] = {module.METHOD.name: module.METHOD for module in MODULES}
SOLVERS: dict[str, Info] = {name: method.info for name, method in METHODS.items()}


def configure_method(method: Method[Any], /, **options: Any) -> Method[Any]:
    """The method with its own options; ``compile`` is one of every explicit Runge-Kutta method."""
    compile = isinstance(method, ExplicitRungeKutta) and options.pop("compile", False)
    method = method.with_options(**options)
    if not compile:
        return method
    from noderun.ode.solvers.compiled.runge_kutta import compiled  # the compiler's import takes a second

    return compiled(method)


__all__ = [
    "ButcherTableau",
    "ExplicitRungeKutta",
    "CONTROLLERS",
    "StepOptions",
    "StepController",
    "Event",
    "Info",
    "METHODS",
    "Method",
    "configure_method",
    "NewtonDivergence",
    "NonFiniteDynamics",
    "Occurrences",
    "SOLVERS",
    "Solution",
    "SolveError",
    "Statistics",
    "StepLimit",
    "StepUnderflow",
]
