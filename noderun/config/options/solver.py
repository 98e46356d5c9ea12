"""Solvers: how y' = f(t, y) is integrated."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Count, NotNegative, Positive, Tolerance
from noderun.config.validation import Constraint

Order = Annotated[int, Constraint(lambda n: 1 <= n <= 5, "a whole number from 1 to 5")]
Gains = Annotated[tuple[float, ...], Constraint(lambda k: 1 <= len(k) <= 3, "a list of one to three numbers")]


@dataclass(frozen=True)
class Solver(Option, group="solver"):
    """How y' = f(t, y) is integrated; dt None steps adaptively, and only then are there tolerances."""

    name: Annotated[str, FACT]
    rtol: Annotated[Tolerance | None, Reference("${tolerance}"), "relative tolerance of adaptive steps"] = 1e-3
    atol: Annotated[Positive | None, Reference("${tolerance}"), "absolute tolerance of adaptive steps"] = 1e-3
    dt: Annotated[Positive | None, "null: steps follow the tolerance; a number: fixed steps of that size"] = None
    max_steps: Annotated[Count, "beyond it the run fails and says so, rather than crawl"] = 10_000
    controller: Annotated[
        Literal["I", "PI", "PID"] | Gains, "of adaptive steps; its integral, proportional and derivative gains"
    ] = "I"
    norm: Annotated[
        Literal["rms", "max", "items"], "of the error; items: the largest rms among the tensors of a nested state"
    ] = "rms"
    first_step: Annotated[Positive | None, "null: chosen from f"] = None
    min_step: Annotated[NotNegative, "a step of this size is accepted whatever its error"] = 0.0
    max_step: Annotated[Positive | None, "null: no limit"] = None
    per_sample: Annotated[bool, "true: each example of a batch has its own steps"] = False
    sync_steps: Annotated[
        bool, "of trainer.devices: true: all take the steps that the whole batch would take; false: each its own"
    ] = False
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@declaration
class ExplicitRungeKutta(Solver):
    """Steps that can be compiled."""

    compile: Annotated[
        bool | None,
        "true: steps as a compiled graph, f included; a minute at first, then faster for a small f; null: eager on a "
        "CPU, CUDA graphs on a GPU; false: eager",
    ] = None


@declaration
class Euler(ExplicitRungeKutta, name="euler"):
    """Euler 1768, order 1, fixed steps: a residual net with shared weights."""

    dt: Annotated[Positive | None, "ten steps over t1=1: as deep as a small residual net"] = 0.1


@declaration
class Midpoint(ExplicitRungeKutta, name="midpoint"):
    """The explicit midpoint method (Runge 1895), order 2, fixed steps."""

    dt: Annotated[Positive | None, "ten steps over t1=1"] = 0.1


@declaration
class Heun2(ExplicitRungeKutta, name="heun2"):
    """Heun 1900, the explicit trapezoidal rule, order 2, fixed steps; adaptive_heun has its error estimate."""

    dt: Annotated[Positive | None, "over t1=1"] = 0.1


@declaration
class Ralston2(ExplicitRungeKutta, name="ralston2"):
    """Ralston 1962, order 2, fixed steps: of its kind the one with the smallest error bound."""

    dt: Annotated[Positive | None, "over t1=1"] = 0.1


@declaration
class Heun3(ExplicitRungeKutta, name="heun3"):
    """Heun 1900, order 3, fixed steps."""

    dt: Annotated[Positive | None, "over t1=1"] = 0.2


@declaration
class Rk4(ExplicitRungeKutta, name="rk4"):
    """The classical Runge-Kutta method (Kutta 1901), order 4, fixed steps."""

    dt: Annotated[Positive | None, "16 evaluations over t1=1, about what dopri5 spends at tolerance 1e-3"] = 0.25


@declaration
class Rk438(ExplicitRungeKutta, name="rk4_38"):
    """Kutta's 3/8 rule (1901), order 4, fixed steps; torchdiffeq calls it rk4."""

    dt: Annotated[Positive | None, "over t1=1"] = 0.25


class AdaptiveHeun(ExplicitRungeKutta, name="adaptive_heun"):
    """Heun 1900 with Euler embedded, order 2(1): two evaluations a step, for very loose tolerances."""


class Fehlberg2(ExplicitRungeKutta, name="fehlberg2"):
    """Fehlberg 1969, order 2(1): its estimate is small, so the error lies above the tolerance."""


class Bosh3(ExplicitRungeKutta, name="bosh3"):
    """Bogacki and Shampine 1989, order 3(2): good at loose tolerances."""


class Fehlberg45(ExplicitRungeKutta, name="fehlberg45"):
    """Fehlberg 1969, order 5(4): the classical pair; dopri5 and tsit5 have smaller errors."""


class Dopri5(ExplicitRungeKutta, name="dopri5"):
    """Dormand and Prince 1980, order 5(4): the default of torchdiffeq and of the papers built on it."""


class Tsit5(ExplicitRungeKutta, name="tsit5"):
    """Tsitouras 2011, order 5(4): a smaller error than dopri5 for the same evaluations."""


class Dopri8(ExplicitRungeKutta, name="dopri8"):
    """Prince and Dormand 1981, order 8(7): for tight tolerances; torchdiffeq's dopri8."""


class Dop853(ExplicitRungeKutta, name="dop853"):
    """Hairer's DOP853, order 8(5,3): for tight tolerances, twelve evaluations a step."""


@declaration
class Richardson(Solver, name="richardson"):
    """Richardson 1911: one step against two halves gives any method an error estimate and one order more."""

    method: Annotated[str, "any one-step method with fixed steps"] = "rk4"


@declaration
class AdamsBashforth(Solver, name="adams_bashforth"):
    """Bashforth and Adams 1883, explicit multistep, one evaluation a step; the first steps are dop853's."""

    dt: Annotated[Positive | None, "fixed steps, over t1=1"] = 0.05
    order: Annotated[Order, "of the method"] = 4


@declaration
class AdamsMoulton(Solver, name="adams_moulton"):
    """Moulton 1926, predictor and corrector, two evaluations a step; the first steps are dop853's."""

    dt: Annotated[Positive | None, "fixed steps, over t1=1"] = 0.1
    order: Annotated[Order, "of the method"] = 4


class Adams(Solver, name="adams"):
    """Adams's method of variable order 1 to 12 and variable step, the family of LSODE that Chen et al. 2018 used."""


@declaration
class Scipy(Solver, name="scipy"):
    """scipy's solvers as a reference, on the host in double precision; gradient=adjoint only."""

    method: Annotated[Literal["RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA"], "scipy's name of it"] = "RK45"


class AsynchronousLeapfrog(Solver, name="asynchronous_leapfrog"):
    """MALI's integrator (Zhuang et al. 2021), order 2(1), reversible: gradient=reversible needs no checkpoints."""


class ReversibleHeun(Solver, name="reversible_heun"):
    """Kidger et al. 2021, order 2(1), reversible: gradient=reversible needs no checkpoints."""


@declaration
class SemiImplicitEuler(Solver, name="semi_implicit_euler"):
    """The symplectic Euler method, order 1, on a state (q, p)."""

    dt: Annotated[Positive | None, "fixed steps, over t1=1"] = 0.05


@declaration
class Leapfrog(Solver, name="leapfrog"):
    """Stoermer and Verlet's method, order 2, symplectic, on a state (q, p)."""

    dt: Annotated[Positive | None, "fixed steps, over t1=1"] = 0.1


@declaration
class Yoshida4(Solver, name="yoshida4"):
    """Yoshida 1990, order 4, symplectic, on a state (q, p)."""

    dt: Annotated[Positive | None, "fixed steps, over t1=1"] = 0.2


@declaration
class ImplicitEuler(Solver, name="implicit_euler"):
    """The implicit Euler method, order 1, L-stable, fixed steps."""

    dt: Annotated[Positive | None, "ten steps over t1=1, each a Newton iteration"] = 0.1


@declaration
class ImplicitMidpoint(Solver, name="implicit_midpoint"):
    """The implicit midpoint rule, Gauss collocation of order 2, fixed steps: keeps quadratic invariants."""

    dt: Annotated[Positive | None, "ten steps over t1=1, each a Newton iteration"] = 0.1


@declaration
class Trapezoid(Solver, name="trapezoid"):
    """The trapezoidal rule (Crank, Nicolson 1947), order 2, A-stable, fixed steps."""

    dt: Annotated[Positive | None, "ten steps over t1=1, each a Newton iteration"] = 0.1


@declaration
class Gauss4(Solver, name="gauss4"):
    """Gauss collocation of order 4 (Hammer, Hollingsworth 1955), fixed steps: keeps quadratic invariants."""

    dt: Annotated[Positive | None, "four steps over t1=1, two coupled stages each"] = 0.25


@declaration
class Gauss6(Solver, name="gauss6"):
    """Gauss collocation of order 6 (Butcher 1964), fixed steps: keeps quadratic invariants."""

    dt: Annotated[Positive | None, "two steps over t1=1, three coupled stages each"] = 0.5


@declaration
class Radau3(Solver, name="radau3"):
    """Radau IIA of order 3 (Ehle 1969), L-stable, fixed steps."""

    dt: Annotated[Positive | None, "four steps over t1=1, two coupled stages each"] = 0.25


class Radau5(Solver, name="radau5"):
    """Radau IIA of order 5 as in Hairer and Wanner's RADAU5: the reference for stiff problems at tight tolerances."""


class Sdirk2(Solver, name="sdirk2"):
    """Alexander 1977, order 2(1), L-stable: the simplest adaptive stiff method."""


class Trbdf2(Solver, name="trbdf2"):
    """Trapezoid and BDF2 in one step (Hosea, Shampine 1996), order 2(3): stiff problems at crude tolerances."""


class Kvaerno3(Solver, name="kvaerno3"):
    """Kvaerno 2004, ESDIRK of order 3(2), L-stable."""


class Kvaerno5(Solver, name="kvaerno5"):
    """Kvaerno 2004, ESDIRK of order 5(4), L-stable: one system of the state's size a stage."""


class Rosenbrock23(Solver, name="rosenbrock23"):
    """Shampine and Reichelt 1997 (ode23s), order 2(3): no iteration; stiff problems at crude tolerances."""


class Rodas4(Solver, name="rodas4"):
    """Hairer and Wanner's RODAS, order 4(3): no iteration, a Jacobian every step."""


class Bdf(Solver, name="bdf"):
    """Backward differentiation of variable order 1 to 5 (Shampine, Reichelt 1997): few calls of f on long stiff
    solves."""


class Auto(Solver, name="auto"):
    """dopri5 while the problem is nonstiff, radau5 while it is stiff: where one does not know, or it changes."""


@declaration
class Milstein(Solver, name="milstein"):
    """Milstein 1974, for stochastic equations of either interpretation, strong order 1 on diagonal noise."""

    dt: Annotated[Positive | None, "the largest step; a step ends at every output"] = 0.1


@declaration
class Heun(Solver, name="heun"):
    """Heun's method for Stratonovich equations (Ruemelin 1982), strong order 1 on diagonal noise; for ordinary ones
    see heun2."""

    dt: Annotated[Positive | None, "the largest step; a step ends at every output"] = 0.1
