"""Checks of a lab's settings before it starts."""

from __future__ import annotations

from collections.abc import Iterable

from noderun.config.validation import ConfigError, Incompatible, nearest
from noderun.lab.context import make_problem
from noderun.lab.measure import unsuitable
from noderun.lab.problems import PROBLEMS
from noderun.lab.settings import Row, Settings, Stability, Steps, Trajectory
from noderun.ode.gradients import GRADIENTS
from noderun.ode.solvers import SOLVERS
from noderun.training.solve_compatibility import check_solver


def check(settings: Settings) -> None:
    """Raise Incompatible if right words do not work together, ConfigError if one of them can never work."""
    lab, solver = settings.lab, settings.solver
    named("problem", [settings.problem.name], PROBLEMS)
    named("solver", [solver.name, *(getattr(lab, "solvers", None) or ())], SOLVERS)
    named("gradient", getattr(lab, "gradients", None) or (), GRADIENTS)
    problem = make_problem(settings)
    if not problem.span[1] > problem.span[0]:
        raise ConfigError(f"problem.t1 must be above {problem.span[0]:g}, not {problem.span[1]:g}")
    if isinstance(lab, Trajectory | Steps):
        check_solver(solver)
        if solver.per_sample:
            raise Incompatible("solver.per_sample is for a batch, and a problem of the lab has one initial value")
        if reason := unsuitable(problem, SOLVERS[solver.name]):
            raise Incompatible(f"solver={solver.name} {reason}")
    if isinstance(lab, Steps) and len(problem.y0) != 1:
        raise Incompatible(
            f"lab=steps draws the direction field of one equation; problem={problem.name} has {len(problem.y0)}"
        )
    if isinstance(lab, Stability):
        check_coefficients(lab)


def check_coefficients(lab: Stability) -> None:
    if lab.a is not None and lab.b is None:
        raise ConfigError("lab.a is a Butcher matrix without weights: give lab.b too")
    rows: tuple[Row, ...] = lab.a or ((),)
    if lab.b is not None and len(rows) != len(lab.b):
        raise ConfigError(f"lab.a has {len(rows)} rows for {len(lab.b)} weights in lab.b: they must be as many")
    if lab.b is not None and any(len(row) > len(rows) for row in rows):
        raise ConfigError(f"a row of lab.a has more than {len(lab.b)} numbers, as many as lab.b")
    if (lab.alpha is None) != (lab.beta is None) or len(lab.alpha or ()) != len(lab.beta or ()):
        raise ConfigError("lab.alpha and lab.beta go together and have as many numbers, that of y(n+k) first")
    if lab.alpha is not None and (len(lab.alpha) < 2 or lab.alpha[0] == 0):
        raise ConfigError("lab.alpha has at least two numbers, and the first is not 0: it is that of y(n+k)")


def named(kind: str, words: Iterable[str], known: Iterable[str]) -> None:
    options = list(known)
    for word in words:
        if word not in options:
            raise ConfigError(f"no {kind} '{word}'{nearest(word, options)}")
