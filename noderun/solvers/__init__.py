"""Solvers of y' = f(t, y): methods, step control, dense output, statistics. ``SOLVERS`` names them all."""

from noderun.solvers import (
    adaptive_heun,
    bosh3,
    dop853,
    dopri5,
    dopri8,
    euler,
    fehlberg2,
    fehlberg45,
    heun2,
    heun3,
    midpoint,
    ralston2,
    rk4,
    rk4_38,
    tsit5,
)
from noderun.solvers.control import CONTROLLERS, Control, Controller
from noderun.solvers.errors import NewtonDivergence, NonFiniteDynamics, SolveError, StepLimit, StepUnderflow
from noderun.solvers.events import Event, Occurrences
from noderun.solvers.method import Info, Method
from noderun.solvers.statistics import Solution, Statistics

EXPLICIT = (euler, midpoint, heun2, ralston2, heun3, rk4, rk4_38)
EMBEDDED = (adaptive_heun, fehlberg2, bosh3, fehlberg45, dopri5, tsit5, dopri8, dop853)

METHODS: dict[str, Method] = {module.METHOD.name: module.METHOD for module in (*EXPLICIT, *EMBEDDED)}
SOLVERS: dict[str, Info] = {name: method.info for name, method in METHODS.items()}

__all__ = [
    "CONTROLLERS",
    "Control",
    "Controller",
    "Event",
    "Info",
    "METHODS",
    "Method",
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
