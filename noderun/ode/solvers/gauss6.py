"""Gauss collocation with three nodes, Kuntzmann 1961 and Butcher 1964."""

from noderun.ode.solvers.collocation import Collocation

METHOD = Collocation(
    "gauss6",
    6,
    (1 / 2 - 15**0.5 / 10, 1 / 2, 1 / 2 + 15**0.5 / 10),
    source="Butcher 1964; Hairer, Wanner, Solving ODEs II, table IV.5.2",
    description="order 6, A-stable, keeps quadratic invariants",
)
