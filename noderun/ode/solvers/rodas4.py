"""Hairer and Wanner's RODAS: a stiffly accurate Rosenbrock pair of orders 4 and 3 with an order 3 interpolant."""

from noderun.ode.solvers.rosenbrock import Rosenbrock, RosenbrockTableau

# fmt: off
LAST = (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950)
# the interpolant (1-s) y0 + s (y1 + (1-s) (sum D2_i u_i + s sum D3_i u_i))
D2 = (10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662, 0.0)
D3 = (-0.6762803392801253, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872, 0.0)
M = (*LAST, 1.0, 1.0)

METHOD = Rosenbrock(
    "rodas4",
    RosenbrockTableau(
        order=4,
        gamma=0.25,
        alpha=(0.0, 0.386, 0.21, 0.63, 1.0, 1.0),
        slopes=(0.25, -0.1043, 0.1035, -0.03620000000000023, 0.0, 0.0),
        a=((),
           (1.544,),
           (0.9466785280815826, 0.2557011698983284),
           (3.314825187068521, 2.896124015972201, 0.9986419139977817),
           LAST,
           (*LAST, 1.0)),
        c=((),
           (-5.6688,),
           (-2.430093356833875, -0.2063599157091915),
           (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
           (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
           (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054)),
        m=M,
        error=(0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        error_order=3,
        dense=tuple((m + d2, d3 - d2, -d3) for m, d2, d3 in zip(M, D2, D3, strict=True)),
    ),
    source="Hairer, Wanner, Solving ODEs II, IV.10, code RODAS",
    description="adaptive, order 4(3), L-stable, no iteration",
)
# fmt: on
