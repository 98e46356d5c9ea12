"""The explicit midpoint rule, Runge 1895."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = ExplicitRungeKutta(
    "midpoint",
    ButcherTableau(
        order=2,
        c=(0.0, 1 / 2),
        a=((), (1 / 2,)),
        b=(0.0, 1.0),
        dense_order=2,
        dense=((1.0, -1.0), (0.0, 1.0)),
    ),
    source="Hairer, Norsett, Wanner, Solving ODEs I, (II.1.4)",
    description="explicit midpoint rule",
)
