"""Kutta's 3/8 rule, which torchdiffeq calls rk4."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau, hermite

B = (1 / 8, 3 / 8, 3 / 8, 1 / 8)

METHOD = ExplicitRungeKutta(
    "rk4_38",
    ButcherTableau(
        order=4,
        c=(0.0, 1 / 3, 2 / 3, 1.0),
        a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        b=B,
        dense_order=3,
        dense=hermite(B),
        dense_a=(B,),
        dense_c=(1.0,),
    ),
    source="Kutta 1901; Hairer, Norsett, Wanner, Solving ODEs I, table II.1.2",
    description="the 3/8 rule, order 4, smaller error terms than rk4",
)
