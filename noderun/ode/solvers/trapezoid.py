"""The trapezoidal rule: theta = 1/2 of the theta methods, Crank-Nicolson in time."""

from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = DiagonallyImplicit(
    "trapezoid",
    ButcherTableau(
        order=2,
        a=((), (1 / 2, 1 / 2)),
        b=(1 / 2, 1 / 2),
        c=(0.0, 1.0),
        dense_order=2,
        dense=((1.0, -1 / 2), (0.0, 1 / 2)),
    ),
    source="Crank, Nicolson 1947; Hairer, Wanner, Solving ODEs II, (IV.3.2)",
    description="order 2, A-stable but without damping of stiff components",
)
