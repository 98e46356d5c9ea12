"""The classical Runge-Kutta method, Kutta 1901, with its natural continuous extension of order 3."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

# fmt: off
METHOD = ExplicitRungeKutta(
    "rk4",
    ButcherTableau(
        order=4,
        c=(0.0, 1 / 2, 1 / 2, 1.0),
        a=((),
           (1 / 2,),
           (0.0, 1 / 2),
           (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        dense_order=3,
        dense=((1.0, -3 / 2, 2 / 3),
               (0.0, 1.0, -2 / 3),
               (0.0, 1.0, -2 / 3),
               (0.0, -1 / 2, 2 / 3)),
    ),
    source="Kutta 1901; Hairer, Norsett, Wanner, Solving ODEs I, table II.1.2 and (II.6.5)",
    description="the classical Runge-Kutta method",
)
# fmt: on
