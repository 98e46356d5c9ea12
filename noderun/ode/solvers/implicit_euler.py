"""The implicit Euler method: theta = 1 of the theta methods."""

from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = DiagonallyImplicit(
    "implicit_euler",
    ButcherTableau(order=1, a=((1.0,),), b=(1.0,), c=(1.0,), dense=((1.0,),), dense_order=1),
    source="Hairer, Wanner, Solving ODEs II, (IV.3.1)",
    description="order 1, L-stable",
)
