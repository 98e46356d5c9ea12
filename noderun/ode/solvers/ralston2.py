"""Ralston's method: of all with two stages and order 2 the one with the smallest error bound."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = ExplicitRungeKutta(
    "ralston2",
    ButcherTableau(
        order=2,
        c=(0.0, 2 / 3),
        a=((), (2 / 3,)),
        b=(1 / 4, 3 / 4),
        dense_order=2,
        dense=((1.0, -3 / 4), (0.0, 3 / 4)),
    ),
    source="Ralston 1962, Math. Comp. 16(80)",
    description="two stages, order 2, smallest error bound",
)
