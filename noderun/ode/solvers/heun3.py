"""Heun's method of order 3."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau, hermite

B = (1 / 4, 0.0, 3 / 4)

METHOD = ExplicitRungeKutta(
    "heun3",
    ButcherTableau(
        order=3,
        c=(0.0, 1 / 3, 2 / 3),
        a=((), (1 / 3,), (0.0, 2 / 3)),
        b=B,
        dense_order=3,
        dense=hermite(B),
        dense_a=(B,),
        dense_c=(1.0,),
    ),
    source="Heun 1900; Hairer, Norsett, Wanner, Solving ODEs I, table II.1.1",
    description="three stages, order 3",
)
