"""Shampine and Reichelt's Rosenbrock pair of orders 2 and 3, ode23s of MATLAB."""

from noderun.ode.solvers.rosenbrock import Rosenbrock, RosenbrockTableau

D = 1 / (2 + 2**0.5)
E32 = 6 + 2**0.5
# As in HW II, (IV.7.24), u = h Gamma k with Gamma = D ((1), (-1, 1), (E32 - 2, -E32, 1)); the paper's h k_i in the u_j:
K1, K2, K3 = (1 / D, 0.0, 0.0), (1 / D, 1 / D, 0.0), (2 / D, E32 / D, 1 / D)

METHOD = Rosenbrock(
    "rosenbrock23",
    RosenbrockTableau(
        order=2,
        gamma=D,
        alpha=(0.0, 1 / 2, 1.0),
        slopes=(D, 0.0, -D),
        a=((), (1 / 2 / D,), (1 / D, 1 / D)),
        c=((), (-1 / D,), (-2 / D, -E32 / D)),
        m=K2,
        error=tuple((k1 - 2 * k2 + k3) / 6 for k1, k2, k3 in zip(K1, K2, K3, strict=True)),
        error_order=2,
        dense=tuple(((k1 - 2 * D * k2) / (1 - 2 * D), (k2 - k1) / (1 - 2 * D)) for k1, k2 in zip(K1, K2, strict=True)),
        fsal=True,
    ),
    source="Shampine, Reichelt 1997, SIAM J. Sci. Comput. 18(1), ode23s",
    description="adaptive, order 2(3), L-stable, no iteration: for crude tolerances",
)
