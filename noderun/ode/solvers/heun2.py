"""Heun's method of order 2, the explicit trapezoidal rule."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = ExplicitRungeKutta(
    "heun2",
    ButcherTableau(
        order=2,
        c=(0.0, 1.0),
        a=((), (1.0,)),
        b=(1 / 2, 1 / 2),
        dense_order=2,
        dense=((1.0, -1 / 2), (0.0, 1 / 2)),
    ),
    source="Heun 1900; Hairer, Norsett, Wanner, Solving ODEs I, II.1",
    description="explicit trapezoidal rule",
)
