"""Yoshida's composition of three leapfrogs, of which the middle one goes back in time."""

from noderun.ode.solvers.splitting import Splitting

OUTER = 1 / (2 - 2 ** (1 / 3))
INNER = 1 - 2 * OUTER

METHOD = Splitting(
    "yoshida4",
    order=4,
    kicks=(OUTER / 2, (OUTER + INNER) / 2, (OUTER + INNER) / 2, OUTER / 2),
    drifts=(OUTER, INNER, OUTER, 0.0),
    source="Yoshida 1990, Phys. Lett. A 150(5-7); Hairer, Lubich, Wanner, Geometric Numerical Integration, (II.4.4)",
    description="symplectic and symmetric, order 4, on a state (q, p); six calls of f a step",
)
