"""Each problem against its exact solution, what it conserves, and end values that others published."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from noderun.lab.problems import PROBLEMS
from noderun.lab.problems.nonstiff import ARENSTORF_PERIOD
from noderun.lab.reference import reference
from tests.lab.published import TEST_SET, TORONTO

EXACT = [name for name, make in PROBLEMS.items() if make().exact]
CONSERVING = [name for name, make in PROBLEMS.items() if make().invariants]


def field(problem, t, y):
    return problem.f(torch.tensor(t, dtype=torch.float64), torch.as_tensor(y, dtype=torch.float64))


@pytest.mark.parametrize("name", EXACT)
def test_exact_solution_solves_the_equation(name):
    problem = PROBLEMS[name]()
    assert problem.exact(problem.span[0]) == pytest.approx(problem.y0, abs=1e-14)
    for share in (0.1, 0.37, 0.8):
        t, d = share * problem.span[1], 1e-5 * problem.span[1]
        # the five-point formula, of order 4
        y = {k: np.array(problem.exact(t + k * d)) for k in (-2, -1, 0, 1, 2)}
        slope = (8 * (y[1] - y[-1]) - (y[2] - y[-2])) / (12 * d)
        f = field(problem, t, y[0]).numpy()
        assert np.abs(slope - f).max() < 1e-7 * max(1.0, np.abs(f).max())


@pytest.mark.parametrize("name", CONSERVING)
def test_invariants_do_not_change_along_the_field(name):
    problem = PROBLEMS[name]()
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        noise = torch.rand(len(problem.y0), generator=generator, dtype=torch.float64)
        y = (problem.start() + 0.1 + 0.3 * noise).requires_grad_()
        f = field(problem, 0.7, y.detach())
        for invariant in problem.invariants.values():
            (gradient,) = torch.autograd.grad(invariant(y), y)
            assert abs(gradient @ f) < 1e-12 * (gradient.norm() * f.norm())
            assert gradient.norm() > 0


@pytest.mark.parametrize("name", TORONTO)
def test_detest_ends_where_its_authors_say(name):
    problem = PROBLEMS[f"detest_{name}"]()
    end = reference(problem, problem.span)[-1]
    for i, value in TORONTO[name].items():
        assert end[i].item() == pytest.approx(value, rel=1e-9, abs=1e-15)


def test_detest_is_complete():
    assert {name for name in PROBLEMS if name.startswith("detest_")} == {f"detest_{name}" for name in TORONTO}


@pytest.mark.parametrize("name", TEST_SET)
def test_published_end_values(name):
    options, end, values = TEST_SET[name]
    problem = PROBLEMS[name](**options)
    method, rtol = ("Radau", 1e-6) if problem.stiff else ("DOP853", 1e-11)

    def f(t, y):
        return field(problem, t, y).numpy()

    found = solve_ivp(f, (0.0, end), problem.y0, method, rtol=rtol, atol=1e-16 if name == "rober" else 1e-12)
    for i, value in values.items():
        assert found.y[i, -1] == pytest.approx(value, rel=1e-4)


def test_arenstorf_comes_back_after_its_period():
    problem = PROBLEMS["arenstorf"]()
    end = reference(problem, [ARENSTORF_PERIOD])[0]
    assert (end - problem.start()).abs().max() < 1e-8


@pytest.mark.parametrize("name", [n for n, make in PROBLEMS.items() if make().separable])
def test_separable_fields_split(name):
    """dq/dt does not depend on q, dp/dt not on p."""
    problem = PROBLEMS[name]()
    y = problem.start() + 0.3
    jacobian = torch.func.jacrev(lambda state: problem.f(torch.tensor(0.7).double(), state))(y)
    n = len(y) // 2
    assert not jacobian[:n, :n].any() and not jacobian[n:, n:].any()


def test_reference_knows_problems_of_one_name_apart():
    mild, wild = (PROBLEMS["van_der_pol"](mu=mu) for mu in (1.0, 5.0))
    ends = [reference(problem, [20.0])[0] for problem in (mild, wild)]
    assert (ends[0] - ends[1]).abs().max() > 0.01
