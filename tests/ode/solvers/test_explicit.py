"""Explicit Runge-Kutta methods: order conditions of every tableau, tolerances, and scipy beside them."""

import re

import numpy as np
import pytest
import torch
from problems import NONAUTONOMOUS
from scipy.integrate import solve_ivp

import noderun
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.rooted_trees import ElementaryWeights, trees
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.tableau import ButcherTableau

# fehlberg2's embedded Euler weighs stage differences by 1/512, so its estimate is small against its error.
CONSTANT = {"fehlberg2": 400}
EXPLICIT = {name: m for name, m in METHODS.items() if isinstance(m, ExplicitRungeKutta)}
TABLEAUS = {n: m.tableau for n, m in METHODS.items() if isinstance(getattr(m, "tableau", None), ButcherTableau)}
EMBEDDED = [name for name, m in EXPLICIT.items() if m.info.adaptive]


def phi(tableau):
    return ElementaryWeights((*tableau.a, *tableau.dense_a))


def test_rooted_trees_are_as_many_as_there_are():
    assert [len(set(trees(order))) for order in range(1, 11)] == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719]


@pytest.mark.parametrize("name", EXPLICIT)
def test_tableau_has_the_order_it_states_and_no_more(name):
    tableau = EXPLICIT[name].tableau
    assert phi(tableau).order_of(tableau.b) == tableau.order
    rows, nodes = (*tableau.a, *tableau.dense_a), [*tableau.c, *tableau.dense_c]
    assert np.allclose([sum(row) for row in rows], nodes, rtol=0, atol=1e-13)
    if tableau.error is not None:
        assert phi(tableau).order_of(np.subtract(tableau.b, tableau.error)) == tableau.error_order


def test_second_error_estimate_of_dop853_has_order_3():
    tableau = EXPLICIT["dop853"].tableau
    assert phi(tableau).order_of(np.subtract(tableau.b[:12], tableau.low_error)) == 3


@pytest.mark.parametrize("name", TABLEAUS)
def test_continuous_extension_has_its_order_at_every_theta_and_ends_on_the_step(name):
    tableau = TABLEAUS[name]
    thetas = (0.1, 0.35, 0.8, 0.97)
    assert {phi(tableau).order_of(tableau.dense_weights(theta), theta) for theta in thetas} == {tableau.dense_order}
    ends = tableau.dense_weights(1.0)
    assert np.allclose(ends, [*tableau.b, *[0.0] * (len(ends) - len(tableau.b))], rtol=0, atol=1e-11)


SSPRK3 = dict(  # Shu, Osher 1988; Hairer and Fehlberg's RKF2(3)B has the embedded weights
    order=3, a=((), (1.0,), (1 / 4, 1 / 4)), b=(1 / 6, 1 / 6, 2 / 3), c=(0.0, 1.0, 1 / 2), error=(-1 / 3, -1 / 3, 2 / 3)
)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"order": 4}, "b is of order 3, by the order conditions, not of order 4"),
        ({"b": (1 / 6, 1 / 6, 1 / 2)}, "b is of order 0"),
        ({"b": (1 / 4, 1 / 4, 1 / 2)}, "b is of order 2"),
        ({"c": (0.0, 1.0, 3 / 4)}, "row 2 of a sums to 0.5 and not to its node c = 0.75"),
        ({"a": ((), (1.0,))}, "3 weights b has 2 rows of a and 3 nodes c"),
        ({"a": ((), (1.0,), (1 / 4, 1 / 4, 0.0, 0.0))}, "row 2 of a has 4 weights"),
        ({"error": (-1 / 3, -1 / 3, 2 / 3, 0.0)}, "error has 4 weights for 3 stages"),
        ({"error": (-1 / 3, 1 / 3, 1 / 3)}, "b - error is of order 0"),
        ({"error_order": 3}, "b - error is of order 2"),
        ({"dense": ((1.0, -1 / 2), (0.0, 1 / 2), (0.0, 0.0)), "dense_order": 2}, "dense at theta = 1 differs from b"),
        ({"dense": ((1.0,), (0.0,), (0.0,)), "dense_order": 2}, "dense is of order 1"),
        ({"dense": ((1.0,),) * 5}, "dense has a row per stage"),
    ],
)
def test_a_tableau_that_is_wrong_is_refused_in_one_sentence(change, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        ButcherTableau(**SSPRK3 | change)


def test_an_explicit_method_refuses_an_implicit_tableau():
    with pytest.raises(ValueError, match="solver 'mine' is explicit"):
        ExplicitRungeKutta("mine", ButcherTableau(order=1, a=((1.0,),), b=(1.0,), c=(1.0,)))


@pytest.mark.parametrize("options", [{"dt": 0.01}, {"rtol": 1e-7, "atol": 1e-7}])
def test_a_method_of_ones_own_needs_an_order_and_the_coefficients(options):
    rows = {name: list(value) if isinstance(value, tuple) else value for name, value in SSPRK3.items()}
    tableau = ButcherTableau(**rows)
    assert hash(tableau) == hash(ButcherTableau(**SSPRK3))
    ts, problem = torch.linspace(0.1, 2.1, 31, dtype=torch.float64), NONAUTONOMOUS
    sol = noderun.solve(problem.f, problem.y0, ts, solver=ExplicitRungeKutta("mine", tableau), **options)
    exact = torch.stack([problem.at(t) for t in ts.tolist()])
    assert (sol.ys - exact).abs().max() < 2e-5  # between steps, too: by the Hermite interpolant


def test_dop853_interpolates_like_scipy():
    ts = np.linspace(0.1, 2.1, 37)
    f, y0 = numpy_problem()
    ours = solve("dop853", ts, 1e-6)
    theirs = solve_ivp(f, (ts[0], ts[-1]), y0, method="DOP853", t_eval=ts, rtol=1e-6, atol=1e-6)
    exact = torch.stack([NONAUTONOMOUS.at(t) for t in ts])
    worst = [np.abs(ys - exact.numpy()).max() for ys in (ours.ys.numpy(), theirs.y.T)]
    assert worst[0] <= 1.5 * worst[1]


@pytest.mark.parametrize("name", EMBEDDED)
def test_error_falls_with_the_tolerance(name):
    tolerances = (1e-3, 1e-4, 1e-5, 1e-6)
    errors = [(solve(name, (0.1, 2.1), tol).ys[-1] - NONAUTONOMOUS.at(2.1)).abs().max().item() for tol in tolerances]
    assert all(error < CONSTANT.get(name, 20) * tol for error, tol in zip(errors, tolerances, strict=True))
    assert errors[-1] < errors[0] / 30


def solve(name, ts, tol):
    with torch.no_grad():
        return noderun.solve(NONAUTONOMOUS.f, NONAUTONOMOUS.y0, list(ts), solver=name, rtol=tol, atol=tol)


def numpy_problem():
    def f(t, y):
        return NONAUTONOMOUS.f(torch.tensor(t, dtype=torch.float64), torch.tensor(y)).numpy()

    return f, NONAUTONOMOUS.y0.numpy()


@pytest.mark.parametrize("name", EXPLICIT)
def test_fixed_steps_run_under_vmap_and_jvp(name):
    def end(y):
        f = lambda t, z: -torch.sin(z + t) * z.flip(0)  # noqa: E731
        return noderun.solve(f, y, [0.0, 0.33, 1.0], solver=name, dt=0.1, gradient="backprop").ys[1:]

    y = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
    assert torch.allclose(torch.func.vmap(end)(y), torch.stack([end(row) for row in y]), rtol=0, atol=1e-13)
    tangent = torch.func.jvp(end, (y[0],), (y[2],))[1]
    jacobian = torch.autograd.functional.jacobian(end, y[0])
    assert torch.allclose(tangent, jacobian @ y[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", EXPLICIT)
def test_fixed_steps_read_no_stage_that_was_not_evaluated(name, monkeypatch):
    def poisoned(like, *shape):
        return like.new_full(shape, torch.nan)

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    with torch.no_grad():
        end = noderun.solve(NONAUTONOMOUS.f, NONAUTONOMOUS.y0, [0.1, 0.4], solver=name, dt=0.1).ys[-1]
    assert torch.isfinite(end).all()


def lotka_volterra(t, y):
    return [1.5 * y[0] - y[0] * y[1], -3 * y[1] + y[0] * y[1]]


def rigid_body(t, y):
    return [-2 * y[1] * y[2], 1.25 * y[0] * y[2], -0.5 * y[0] * y[1]]


def fitzhugh_nagumo(t, y):
    return [y[0] - y[0] ** 3 / 3 - y[1] + 0.5, (y[0] + 0.7 - 0.8 * y[1]) / 12.5]


def brusselator(t, y):
    return [1 + y[0] ** 2 * y[1] - 4 * y[0], 3 * y[0] - y[0] ** 2 * y[1]]


NONSTIFF = {
    "lotka_volterra": (lotka_volterra, [1.0, 1.0], 10.0),
    "rigid_body": (rigid_body, [1.0, 0.0, 0.9], 10.0),
    "fitzhugh_nagumo": (fitzhugh_nagumo, [1.0, 1.0], 20.0),
    "brusselator": (brusselator, [1.5, 3.0], 10.0),
}


@pytest.mark.parametrize("problem", NONSTIFF)
@pytest.mark.parametrize(("ours", "theirs"), [("dopri5", "RK45"), ("dop853", "DOP853")])
def test_error_at_equal_nfe_is_not_worse_than_scipys(ours, theirs, problem):
    f, y0, t1 = NONSTIFF[problem]
    exact = solve_ivp(f, (0, t1), y0, method="DOP853", rtol=3e-14, atol=1e-14).y[:, -1]
    field = lambda t, y: torch.stack(f(t, y.unbind()))  # noqa: E731
    mine, other = [], []
    for tol in np.logspace(-4, -9, 11):
        with torch.no_grad():
            sol = noderun.solve(field, torch.tensor(y0, dtype=torch.float64), [0, t1], solver=ours, rtol=tol, atol=tol)
        mine.append((sol.stats.nfe_forward, np.abs(sol.ys[-1].numpy() - exact).max()))
        ref = solve_ivp(f, (0, t1), y0, method=theirs, rtol=tol, atol=tol)
        other.append((ref.nfev, np.abs(ref.y[:, -1] - exact).max()))
    (nfe, error), (other_nfe, other_error) = np.log(mine).T, np.log(other).T
    grid = np.linspace(max(nfe[0], other_nfe[0]), min(nfe[-1], other_nfe[-1]), 20)
    excess = np.interp(grid, nfe, error) - np.interp(grid, other_nfe, other_error)
    assert excess.mean() < np.log(1.25)
