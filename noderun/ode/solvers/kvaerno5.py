"""Kvaerno's ESDIRK pair of orders 5 and 4, both stiffly accurate."""

from noderun.ode.solvers.dirk import DiagonallyImplicit, stiffly_accurate
from noderun.ode.solvers.tableau import ButcherTableau

G = 0.26
# fmt: off
LOWER = (0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676, G)
B = (0.13659751177640291, 0.0, -0.05496908796538376, -0.04118626728321046, 0.62993304899016403, 0.06962479448202728, G)

METHOD = DiagonallyImplicit(
    "kvaerno5",
    ButcherTableau(
        order=5,
        a=((),
           (G, G),
           (0.13, 0.84033320996790809, G),
           (0.22371961478320505, 0.47675532319799699, -0.06470895363112615, G),
           (0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998, G),
           LOWER,
           B),
        b=B,
        c=(0.0, 0.52, 1.230333209967908, 0.8957659843500759, 0.43639360985864756, 1.0, 1.0),
        error=(*(b - lower for b, lower in zip(B, LOWER, strict=False)), G),
        error_order=4,
        dense_order=3,
        dense=stiffly_accurate(B),
    ),
    source="Kvaerno 2004, BIT 44, method 5/4",
    description="adaptive, order 5(4), L-stable, stiffly accurate error estimate",
)
# fmt: on
