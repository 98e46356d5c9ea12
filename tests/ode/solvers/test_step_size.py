"""The formulas of step size control: the same on numbers and on tensors, whatever the numbers are."""

import itertools
import math

import pytest
import torch

from noderun.ode.solvers import step_size
from noderun.ode.solvers.step_size import CONTROLLERS

VALUES = (0.0, 1e-300, 1e-7, 1e-5, 0.3, 0.9, 1.0, 1 + 1e-11, 7.0, 1e9, math.inf, math.nan)
SIZES = VALUES[1:-2]  # of steps and distances: positive and finite


@pytest.mark.parametrize(
    ("formula", "arguments"),
    [
        (lambda h, left: step_size.clip(h, left)[0], (SIZES, SIZES)),
        (lambda h, left: step_size.clip(h, left)[1], (SIZES, SIZES)),
        (step_size.is_accepted, (VALUES, SIZES, (0.0, 0.3))),
        (step_size.next_size, (SIZES, SIZES, (0.2, 1.0, 10.0))),
        (step_size.euler_trial_step, (VALUES, VALUES, SIZES)),
        (lambda *given: step_size.step_from_curvature(*given, order=4), ((1e-6, 0.3), VALUES, VALUES, SIZES)),
        *[(lambda *errors, c=c: c.unlimited(errors, 4), (SIZES[1:],) * 3) for c in CONTROLLERS.values()],
    ],
)
def test_numbers_and_tensors_give_the_same(formula, arguments):
    cases = list(itertools.product(*arguments))
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*cases, strict=True)]
    values = [formula(*case) for case in cases]
    expected = torch.tensor(values, dtype=torch.bool if isinstance(values[0], bool) else torch.float64)
    torch.testing.assert_close(formula(*columns), expected, rtol=1e-14, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("left", SIZES)
def test_a_step_is_never_followed_by_a_sliver(left):
    for h in SIZES:
        size, whole = step_size.clip(h, left)
        assert size <= max(h, left) and whole == (size == left)
        assert whole or left - size > 0.09 * left


@pytest.mark.parametrize("d1", [math.inf, math.nan])
def test_the_first_step_is_the_trial_if_f_has_no_finite_value_there(d1):
    assert step_size.step_from_curvature(1e-6, d1, 1.0, 2.0, 4) == 1e-6
    assert step_size.step_from_curvature(1e-6, 1.0, math.inf, 2.0, 4) == 1e-6
