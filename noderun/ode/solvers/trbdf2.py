"""A trapezoidal rule followed by a backward differentiation: Bank et al., as an ESDIRK by Hosea and Shampine."""

from noderun.ode.solvers.dirk import DiagonallyImplicit, stiffly_accurate
from noderun.ode.solvers.tableau import ButcherTableau

D = 1 - 0.5**0.5
W = 2**0.5 / 4
B = (W, W, D)

METHOD = DiagonallyImplicit(
    "trbdf2",
    ButcherTableau(
        order=2,
        a=((), (D, D), B),
        b=B,
        c=(0.0, 2 * D, 1.0),
        error=(W - (1 - W) / 3, W - (3 * W + 1) / 3, D - D / 3),
        error_order=2,
        dense_order=2,
        dense=stiffly_accurate(B),
    ),
    source="Hosea, Shampine 1996, Appl. Numer. Math. 20(1-2)",
    description="adaptive, order 2(3), L-stable",
    filtered=True,
)
