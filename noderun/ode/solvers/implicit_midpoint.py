"""The implicit midpoint rule: Gauss collocation with one node."""

from noderun.ode.solvers.collocation import Collocation

METHOD = Collocation(
    "implicit_midpoint",
    2,
    (1 / 2,),
    source="Hairer, Norsett, Wanner, Solving ODEs I, (II.7.4)",
    description="order 2, A-stable, keeps quadratic invariants",
)
