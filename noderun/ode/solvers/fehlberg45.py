"""Fehlberg's pair of orders 5 and 4; the solution of order 5 is carried on (local extrapolation)."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau, hermite

B = (16 / 135, 0.0, 6656 / 12825, 28561 / 56430, -9 / 50, 2 / 55)

# fmt: off
METHOD = ExplicitRungeKutta(
    "fehlberg45",
    ButcherTableau(
        order=5,
        c=(0.0, 1 / 4, 3 / 8, 12 / 13, 1.0, 1 / 2),
        a=((),
           (1 / 4,),
           (3 / 32, 9 / 32),
           (1932 / 2197, -7200 / 2197, 7296 / 2197),
           (439 / 216, -8.0, 3680 / 513, -845 / 4104),
           (-8 / 27, 2.0, -3544 / 2565, 1859 / 4104, -11 / 40)),
        b=B,
        error=(1 / 360, 0.0, -128 / 4275, -2197 / 75240, 1 / 50, 2 / 55),
        error_order=4,
        dense_order=3,
        dense=hermite(B),
        dense_a=(B,),
        dense_c=(1.0,),
    ),
    source="Fehlberg 1969; Hairer, Norsett, Wanner, Solving ODEs I, table II.5.1",
    description="adaptive, order 5(4), six stages",
)
# fmt: on
