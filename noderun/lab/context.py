"""The context in which a lab runs, and its result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from noderun.lab.measure import family, unsuitable
from noderun.lab.problems import PROBLEMS, Problem
from noderun.lab.settings import Settings
from noderun.ode.solvers import SOLVERS, Info
from noderun.training.build import load_class, step_control

log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class LabContext:
    """``figures`` is the folder for the lab's figures."""

    settings: Settings
    figures: Path

    @cached_property
    def problem(self) -> Problem:
        return make_problem(self.settings)

    @property
    def steps(self) -> dict[str, Any]:
        """The chosen solver's tolerances or step, as ``run_solver`` takes them."""
        choice = self.settings.solver
        words = {"rtol": choice.rtol, "atol": choice.atol, "dt": choice.dt, "options": choice.options}
        return words | {"max_steps": choice.max_steps, "device": self.settings.device} | step_control(choice)

    def solvers(self, names: Sequence[str] | None, suits: Callable[[Info], bool], why: str) -> list[str]:
        """The named solvers, or all that suit; a named solver that does not suit is left out, and the log says so."""
        chosen = []
        for name in names or sorted(SOLVERS, key=lambda name: (family(name), SOLVERS[name].order or 99, name)):
            reason = unsuitable(self.problem, SOLVERS[name]) or (None if suits(SOLVERS[name]) else why)
            if reason is None:
                chosen.append(name)
            elif names:
                log.warning("%s is left out: it %s", name, reason)
        return chosen


@dataclass(frozen=True)
class LabResult:
    """``rows`` become the table and results.csv; ``values`` go to result.json."""

    rows: Rows
    values: dict[str, Any]


def make_problem(settings: Settings) -> Problem:
    """Make the chosen problem; raise ValueError if the problem does not take an option."""
    choice = settings.problem
    problem = (load_class(choice.user_class) if choice.user_class else PROBLEMS[choice.name])(**choice.options)
    return problem if choice.t1 is None else replace(problem, span=(problem.span[0], choice.t1))
