"""Explicit Euler, 1768."""

from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

METHOD = ExplicitRungeKutta(
    "euler",
    ButcherTableau(order=1, c=(0.0,), a=((),), b=(1.0,), dense=((1.0,),), dense_order=1),
    source="Hairer, Norsett, Wanner, Solving ODEs I, (I.7.3)",
    description="explicit Euler: a residual block is one of its steps",
)
