"""Gauss collocation with two nodes, Hammer and Hollingsworth 1955."""

from noderun.ode.solvers.collocation import Collocation

METHOD = Collocation(
    "gauss4",
    4,
    (1 / 2 - 3**0.5 / 6, 1 / 2 + 3**0.5 / 6),
    source="Hammer, Hollingsworth 1955; Hairer, Wanner, Solving ODEs II, table IV.5.1",
    description="order 4, A-stable, keeps quadratic invariants",
)
