"""Heun's method with Euler's as its embedded solution, orders 2 and 1."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = ExplicitRungeKutta(
    "adaptive_heun",
    ButcherTableau(
        order=2,
        c=(0.0, 1.0),
        a=((), (1.0,)),
        b=(1 / 2, 1 / 2),
        error=(-1 / 2, 1 / 2),
        error_order=1,
        dense_order=2,
        dense=((1.0, -1 / 2), (0.0, 1 / 2)),
    ),
    source="Heun 1900; Hairer, Norsett, Wanner, Solving ODEs I, II.4",
    description="adaptive, order 2(1), two evaluations a step",
)
