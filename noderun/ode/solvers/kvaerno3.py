"""Kvaerno's ESDIRK pair of orders 3 and 2, both stiffly accurate."""

from noderun.ode.solvers.dirk import DiagonallyImplicit, stiffly_accurate
from noderun.ode.solvers.tableau import ButcherTableau

G = 0.43586652150845899942  # the root of x^3 - 3 x^2 + 3/2 x - 1/6 that makes the method L-stable
LOWER = ((-4 * G**2 + 6 * G - 1) / (4 * G), (1 - 2 * G) / (4 * G), G)
B = ((6 * G - 1) / (12 * G), -1 / ((24 * G - 12) * G), (-6 * G**2 + 6 * G - 1) / (6 * G - 3), G)

METHOD = DiagonallyImplicit(
    "kvaerno3",
    ButcherTableau(
        order=3,
        a=((), (G, G), LOWER, B),
        b=B,
        c=(0.0, 2 * G, 1.0, 1.0),
        error=(B[0] - LOWER[0], B[1] - LOWER[1], B[2] - LOWER[2], G),
        error_order=2,
        dense_order=3,
        dense=stiffly_accurate(B),
    ),
    source="Kvaerno 2004, BIT 44, method 3/2",
    description="adaptive, order 3(2), L-stable, stiffly accurate error estimate",
)
