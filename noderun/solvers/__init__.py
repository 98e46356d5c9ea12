"""Solvers of y' = f(t, y): methods, step control, dense output, statistics. ``SOLVERS`` names them all."""

from noderun.solvers import bosh3, dopri5, euler, heun2, midpoint, rk4, tsit5
from noderun.solvers.control import CONTROLLERS, Control, Controller
from noderun.solvers.errors import NewtonDivergence, NonFiniteDynamics, SolveError, StepLimit, StepUnderflow
from noderun.solvers.method import Info, Method
from noderun.solvers.statistics import Solution, Statistics

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD for module in (euler, midpoint, heun2, rk4, bosh3, dopri5, tsit5)
}
SOLVERS: dict[str, Info] = {name: method.info for name, method in METHODS.items()}

__all__ = [
    "CONTROLLERS",
    "Control",
    "Controller",
    "Info",
    "METHODS",
    "Method",
    "NewtonDivergence",
    "NonFiniteDynamics",
    "SOLVERS",
    "Solution",
    "SolveError",
    "Statistics",
    "StepLimit",
    "StepUnderflow",
]
