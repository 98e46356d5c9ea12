"""The symplectic Euler method: a kick of p, then a drift of q with the new p."""

from noderun.ode.solvers.splitting import Splitting

METHOD = Splitting(
    "semi_implicit_euler",
    order=1,
    kicks=(1.0,),
    drifts=(1.0,),
    source="de Vogelaere 1956; Hairer, Lubich, Wanner, Geometric Numerical Integration, (I.1.9)",
    description="symplectic Euler on a state (q, p)",
)
