"""Checks of a lab's settings before it starts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from noderun.config.validation import ConfigError, Incompatible, nearest
from noderun.lab.context import make_problem
from noderun.lab.measure import unsuitable
from noderun.lab.problems import PROBLEMS, Problem
from noderun.lab.settings import Row, Settings, Stability, Steps, Trajectory
from noderun.ode.gradients import GRADIENTS
from noderun.ode.solvers import SOLVERS
from noderun.training.isolation import isolated
from noderun.training.solve_compatibility import check_solver


def check(settings: Settings) -> None:
    """Raise Incompatible if right words do not work together, ConfigError if one of them can never work."""
    lab, solver = settings.lab, settings.solver
    named("solver", [solver.name, *(getattr(lab, "solvers", None) or ())], SOLVERS)
    named("gradient", getattr(lab, "gradients", None) or (), GRADIENTS)
    problem = checked_problem(settings)
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


def checked_problem(settings: Settings) -> Problem:
    """The chosen problem; ConfigError if a user's own cannot be made, or if its f does not return dy/dt."""
    choice = settings.problem
    if not choice.user_class:
        named("problem", [choice.name], PROBLEMS)
        return make_problem(settings)
    what = f"class: {choice.user_class}"
    with isolated(torch.device("cpu")):
        try:
            problem = make_problem(settings)
            if not isinstance(problem, Problem):
                raise ConfigError(f"{what} makes a {type(problem).__name__}, not a noderun.lab.problems.Problem")
            y0 = problem.start()
            found = problem.f(torch.tensor(problem.span[0], dtype=y0.dtype), y0)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"{what} raises {type(error).__name__}: {error}") from error
    if not (isinstance(found, Tensor) and found.shape == y0.shape and found.dtype == y0.dtype):
        kind = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"{what}: f(t, y) must return a tensor as y is, float64 {list(y0.shape)}, not {kind}")
    return problem


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
