"""Fehlberg's pair of orders 2 and 1; the solution of order 2 is carried on."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = ExplicitRungeKutta(
    "fehlberg2",
    ButcherTableau(
        order=2,
        c=(0.0, 1 / 2, 1.0),
        a=((), (1 / 2,), (1 / 256, 255 / 256)),
        b=(1 / 512, 255 / 256, 1 / 512),
        error=(-1 / 512, 0.0, 1 / 512),
        error_order=1,
        # b_i theta^2, and on k_0 what is left of theta: order 2 at every theta
        dense_order=2,
        dense=((1.0, -511 / 512), (0.0, 255 / 256), (0.0, 1 / 512)),
    ),
    source="Fehlberg 1969, NASA TR R-315; Hairer, Norsett, Wanner, Solving ODEs I, II.4",
    description="adaptive, order 2(1), very small error terms",
)
