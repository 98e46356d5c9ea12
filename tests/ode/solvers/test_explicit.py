"""Explicit Runge-Kutta methods: order conditions of every tableau, tolerances, and scipy beside them."""

import numpy as np
import pytest
import torch
from problems import NONAUTONOMOUS
from rooted_trees import order_of
from scipy.integrate import solve_ivp

import noderun
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta

# fehlberg2's embedded Euler weighs stage differences by 1/512, so its estimate is small against its error.
CONSTANT = {"fehlberg2": 400}
EXPLICIT = {name: m for name, m in METHODS.items() if isinstance(m, ExplicitRungeKutta)}
EMBEDDED = [name for name, m in EXPLICIT.items() if m.info.adaptive]
DENSE_ORDER = {  # of the weights b_i(theta) at every theta
    "euler": 1, "midpoint": 2, "heun2": 2, "ralston2": 2, "heun3": 3, "rk4": 3, "rk4_38": 3, "adaptive_heun": 2,
    "fehlberg2": 2, "bosh3": 3, "fehlberg45": 3, "dopri5": 4, "tsit5": 4, "dopri8": 6, "dop853": 7,
}  # fmt: skip


def matrix(tableau) -> np.ndarray:
    """a [s, s] with the stages that only the continuous extension needs at the end."""
    rows = [*tableau.a, *tableau.dense_a]
    a = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        a[i, : len(row)] = row
    return a


def padded(a: np.ndarray, weights) -> np.ndarray:
    return np.array([*weights, *[0.0] * (len(a) - len(weights))])


@pytest.mark.parametrize("name", EXPLICIT)
def test_tableau_has_the_order_it_states_and_no_more(name):
    tableau = EXPLICIT[name].tableau
    a = matrix(tableau)
    assert order_of(a, padded(a, tableau.b)) == tableau.order
    assert np.allclose(a.sum(1), [*tableau.c, *tableau.dense_c], rtol=0, atol=1e-13)
    if tableau.error is not None:
        assert order_of(a, padded(a, np.subtract(tableau.b, tableau.error))) == tableau.error_order


def test_second_error_estimate_of_dop853_has_order_3():
    method = METHODS["dop853"]
    a = matrix(method.tableau)
    assert order_of(a, padded(a, method.tableau.b[:12] - np.array(method.tableau.low_error))) == 3


@pytest.mark.parametrize("name", EXPLICIT)
def test_continuous_extension_has_its_order_at_every_theta_and_ends_on_the_step(name):
    tableau = EXPLICIT[name].tableau
    a = matrix(tableau)
    found = [order_of(a, padded(a, tableau.dense_weights(theta)), theta) for theta in (0.1, 0.35, 0.5, 0.8, 0.97)]
    assert set(found) == {DENSE_ORDER[name]}
    assert np.allclose(padded(a, tableau.dense_weights(1.0)), padded(a, tableau.b), rtol=0, atol=1e-11)


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
