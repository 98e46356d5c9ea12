"""Alexander's singly diagonally implicit method of order 2 with an embedded solution of order 1."""

from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.tableau import ButcherTableau

GAMMA = 1 - 0.5**0.5
DENSE = 1 / (2 * (1 - GAMMA))  # the quadratic of order 2: sum b_i(theta) c_i = theta^2 / 2

METHOD = DiagonallyImplicit(
    "sdirk2",
    ButcherTableau(
        order=2,
        a=((GAMMA,), (1 - GAMMA, GAMMA)),
        b=(1 - GAMMA, GAMMA),
        c=(GAMMA, 1.0),
        error=(-GAMMA, GAMMA),
        error_order=1,
        dense_order=2,
        dense=((1 + 2 * GAMMA * DENSE, -DENSE), (-2 * GAMMA * DENSE, DENSE)),
    ),
    source="Alexander 1977, SIAM J. Numer. Anal. 14(6)",
    description="adaptive, order 2(1), L-stable",
    filtered=True,
)
