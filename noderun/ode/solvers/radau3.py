"""Radau IIA collocation with two nodes, Ehle 1969."""

from noderun.ode.solvers.collocation import Collocation

METHOD = Collocation(
    "radau3",
    3,
    (1 / 3, 1.0),
    source="Ehle 1969; Hairer, Wanner, Solving ODEs II, table IV.5.5",
    description="order 3, L-stable",
)
