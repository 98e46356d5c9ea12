"""Stability functions and multistep theory against textbook values and against the engine's own steps."""

import math

import pytest
import torch

from noderun import solve
from noderun.lab.linear_stability import Multistep, StabilityFunction, adams_bashforth, adams_moulton, bdf
from noderun.lab.stability import stability_function
from noderun.ode.solvers import SOLVERS

WITH_TABLEAU = [name for name in SOLVERS if stability_function(name)]


@pytest.mark.parametrize("name", WITH_TABLEAU)
@pytest.mark.parametrize("z", [-0.7, 0.3])
def test_stability_function_is_what_a_step_does(name, z):
    start = torch.ones(1, dtype=torch.float64)
    tight = {"rtol": 1e-12, "atol": 1e-12}
    step = solve(lambda t, y: z * y, start, [0.0, 1.0], solver=name, dt=1.0, **tight).ys[-1].item()
    assert stability_function(name)(z) == pytest.approx(step, rel=1e-8)


@pytest.mark.parametrize("name", WITH_TABLEAU)
def test_stability_function_approximates_the_exponential_to_the_order(name):
    p, r = SOLVERS[name].order, stability_function(name)
    errors = [abs(r(h) - math.exp(h)) for h in (0.4, 0.2)]
    assert errors[1] < 1e-9 or math.log2(errors[0] / errors[1]) > p + 0.7


# Hairer, Wanner, Solving ODEs II, IV.2 (figure 2.1) and IV.3
@pytest.mark.parametrize(
    "name, real, imaginary",
    [("euler", 2.0, 0.0), ("midpoint", 2.0, 0.0), ("bosh3", 2.5127, math.sqrt(3)), ("rk4", 2.7853, math.sqrt(8))],
)
def test_stability_intervals(name, real, imaginary):
    r = stability_function(name)
    assert r.real_interval == pytest.approx(real, abs=1e-4)
    assert r.imaginary_interval == pytest.approx(imaginary, abs=1e-6)
    assert not r.a_stable


@pytest.mark.parametrize(
    "p, q, a_stable, l_stable",
    [
        ((1.0,), (1.0, -1.0), True, True),  # implicit Euler
        ((1.0, 0.5), (1.0, -0.5), True, False),  # trapezoid
        ((1.0, 1 / 3), (1.0, -2 / 3, 1 / 6), True, True),  # Radau IIA, order 3
        ((1.0, 0.6), (1.0, -0.4), False, False),  # theta = 0.4
        ((1.0, 1.0), (1.0,), False, False),  # Euler
        ((1.0, 0.75, 0.25, 1 / 24), (1.0, -0.25), False, False),  # Pade (3, 1)
        ((1.0,), (1.0, 1.0), False, False),  # a pole on the left
    ],
)
def test_a_and_l_stability(p, q, a_stable, l_stable):
    r = StabilityFunction(p, q)
    assert (r.a_stable, r.l_stable) == (a_stable, l_stable)


# HNW I, table III.3.1; HW II, table V.2.1 and V.1
@pytest.mark.parametrize("k, angle", [(1, 90.0), (2, 90.0), (3, 86.03), (4, 73.35), (5, 51.84), (6, 17.84)])
def test_bdf(k, angle):
    assert bdf(k).order() == k and bdf(k).consistent() and bdf(k).zero_stable()
    assert bdf(k).angle() == pytest.approx(angle, abs=0.02)


def test_bdf_beyond_six_steps_is_not_zero_stable():
    assert bdf(7).order() == 7 and not bdf(7).zero_stable()


@pytest.mark.parametrize("k, interval", [(1, 2.0), (2, 1.0), (3, 6 / 11), (4, 0.3)])
def test_adams_bashforth(k, interval):
    assert adams_bashforth(k).order() == k and adams_bashforth(k).zero_stable()
    assert adams_bashforth(k).real_interval() == pytest.approx(interval, abs=1e-6)


@pytest.mark.parametrize("k, interval", [(1, math.inf), (2, 6.0), (3, 3.0), (4, 90 / 49)])
def test_adams_moulton(k, interval):
    assert adams_moulton(k).order() == k + 1
    assert adams_moulton(k).real_interval() == pytest.approx(interval, abs=1e-6)


def test_the_most_accurate_explicit_two_step_method_is_not_zero_stable():
    """y(n+2) + 4 y(n+1) - 5 y(n) = h (4 f(n+1) + 2 f(n)), order 3; HNW I, (III.3.1)."""
    method = Multistep((1.0, 4.0, -5.0), (0.0, 4.0, 2.0))
    assert method.order() == 3 and not method.zero_stable()
