"""Targets beside rows made up for the purpose."""

import re

import pytest

from noderun.benchmarks import problems
from noderun.benchmarks.case import LIMIT, Row
from noderun.benchmarks.gpu import gpu_cases
from noderun.benchmarks.objectives import Block
from noderun.benchmarks.series import series_cases
from noderun.benchmarks.startup import startup_cases
from noderun.benchmarks.step import step_case
from noderun.benchmarks.stochastic import stochastic_cases
from noderun.benchmarks.tables import page, verdict
from noderun.benchmarks.targets import TARGETS, Target
from noderun.benchmarks.training import MODES, pass_case

MACHINE = {"processor": "2 x a processor", "device": "cpu", "threads": 2, "python": "3", "versions": {}, "absent": []}


def row(case, contender, milliseconds, suite="solve"):
    return Row(suite, case, contender, milliseconds, 0.9 * milliseconds, 1.2 * milliseconds, 1.0, None)


ROWS = [
    *(row("small, 1", name, ms) for name, ms in ((LIMIT, 10.0), ("noderun", 11.0), ("peer", 44.0))),
    *(row("small, 2", name, ms) for name, ms in ((LIMIT, 10.0), ("noderun", 13.0), ("peer", 26.0))),
    row("large", LIMIT, 1.0),
]


@pytest.mark.parametrize(
    ("target", "cells"),
    [
        (Target("a", "solve", "small", "noderun", LIMIT, 1.2), ["at most 1.2 x limit", "1.1 to 1.3", "1 of 2"]),
        (Target("a", "solve", "small", "noderun", LIMIT, 1.3), ["at most 1.3 x limit", "1.1 to 1.3", "yes"]),
        (Target("a", "solve", "small, 1", "noderun", "peer", 3, faster=True), ["at least 3 x faster", "4", "yes"]),
        (Target("a", "solve", "small, 2", "noderun", "peer", 3, faster=True), ["at least 3 x faster", "2", "no"]),
        (Target("a", "solve", "large", "noderun", LIMIT, 1.2), ["at most 1.2 x limit", "not run", "-"]),
        (Target("a", "solve", "small, 1", "peer", None, 40), ["at most 40 ms", "44", "no"]),
    ],
)
def test_a_target_beside_what_was_measured(target, cells):
    assert verdict(target, ROWS) == ["a", *cells]


def test_every_target_names_cases_that_there_are():
    small = [problems.mlp(batch, 1e-3).name for batch in (1, 128, 1024, 16384)]
    passes = [pass_case(Block(1), mode).name for mode in MODES]
    startup = [case.name for case in startup_cases(quick=True)]
    names = {
        "series": [case.name for case in series_cases("cpu", quick=True)],
        "stochastic": [case.name for case in stochastic_cases("cpu", quick=True)],
        "gpu": [case.name for case in gpu_cases("cpu", quick=True)],
        "solve": small,
        "gradient": small,
        "training": [*passes, step_case(1, "cpu").name],
        "startup": startup,
    }
    for target in TARGETS:
        assert any(re.match(target.cases, name) for name in names[target.suite]), target


def test_the_page_has_the_spread_and_the_targets_of_its_suites_alone():
    text = page(ROWS, [], [], MACHINE, "noderun bench suite=solve")
    assert "| small, 1 | 10.00 | 1.00 | 1.00 | 30% |" in text
    assert all((target.what in text) == (target.suite == "solve") for target in TARGETS)
    assert text.startswith("`noderun bench suite=solve` on 2 x a processor, no GPU, 2 threads")
