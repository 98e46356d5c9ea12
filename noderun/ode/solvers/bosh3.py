"""Bogacki and Shampine's pair of orders 3 and 2, with cubic Hermite interpolation."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau, hermite

B = (2 / 9, 1 / 3, 4 / 9)

# fmt: off
METHOD = ExplicitRungeKutta(
    "bosh3",
    ButcherTableau(
        order=3,
        c=(0.0, 1 / 2, 3 / 4, 1.0),
        a=((),
           (1 / 2,),
           (0.0, 3 / 4),
           B),
        b=(*B, 0.0),
        error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
        error_order=2,
        dense_order=3,
        dense=hermite(B),
    ),
    source="Bogacki, Shampine 1989, Appl. Math. Lett. 2(4)",
    description="adaptive, order 3(2), first same as last",
)
# fmt: on
