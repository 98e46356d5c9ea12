"""Classical initial value problems; ``PROBLEMS`` maps each name to the function that makes it."""

from __future__ import annotations

from collections.abc import Callable

from noderun.lab.problems import elementary, nonstiff, stiff
from noderun.lab.problems.detest import DETEST
from noderun.lab.problems.problem import Problem

PROBLEMS: dict[str, Callable[..., Problem]] = {
    make.__name__: make
    for make in (
        elementary.exponential,
        elementary.harmonic_oscillator,
        elementary.nonautonomous_linear,
        elementary.pendulum,
        elementary.kepler,
        nonstiff.lotka_volterra,
        nonstiff.rigid_body,
        nonstiff.fitzhugh_nagumo,
        nonstiff.arenstorf,
        nonstiff.pleiades,
        nonstiff.lorenz,
        stiff.van_der_pol,
        stiff.rober,
        stiff.hires,
        stiff.orego,
        stiff.heat,
    )
}
PROBLEMS |= {problem.name: (lambda problem=problem: problem) for problem in DETEST}

__all__ = ["PROBLEMS", "Problem"]
