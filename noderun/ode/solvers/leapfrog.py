"""The leapfrog of Stoermer and Verlet: half a kick, a drift, half a kick."""

from noderun.ode.solvers.splitting import Splitting

METHOD = Splitting(
    "leapfrog",
    order=2,
    kicks=(1 / 2, 1 / 2),
    drifts=(1.0, 0.0),
    source="Verlet 1967; Hairer, Lubich, Wanner 2003, Acta Numerica 12",
    description="symplectic and symmetric, on a state (q, p); two calls of f per step",
)
