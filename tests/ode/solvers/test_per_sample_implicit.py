"""Implicit methods with steps of each sample's own: against each sample alone, and against scipy."""

import functools

import pytest
import torch
from sample_problems import decay, starts, tensor, van_der_pol
from scipy.integrate import solve_ivp

import noderun
from noderun import solve
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.collocation import CollocationMethod
from noderun.ode.solvers.dirk import DiagonallyImplicit
from noderun.ode.solvers.errors import NewtonDivergence
from noderun.ode.solvers.rosenbrock import Rosenbrock

IMPLICIT = [n for n, m in METHODS.items() if isinstance(m, (CollocationMethod, DiagonallyImplicit, Rosenbrock))]
ADAPTIVE = [n for n in IMPLICIT if noderun.SOLVERS[n].adaptive]


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_each_sample_takes_the_steps_that_it_takes_alone(solver):
    y0, ts = starts(2), [0.0, 0.5, 1.0]
    tol = 1e-3 if solver == "sdirk2" else 1e-5
    batch = solve(van_der_pol, y0, ts, per_sample=True, solver=solver, rtol=tol, atol=tol)
    assert batch.status == ["done"] * 2
    for i, start in enumerate(y0):
        alone = solve(van_der_pol, start, ts, solver=solver, rtol=tol, atol=tol).stats
        assert abs(batch.stats.accepted[i] - alone.accepted) <= 0.02 * alone.accepted
        assert abs(batch.stats.nfe_forward[i] - alone.nfe_forward) <= 0.05 * alone.nfe_forward
        assert batch.stats.jacobians[i] <= alone.jacobians + alone.rejected


@pytest.mark.parametrize("solver", IMPLICIT)
def test_fixed_steps_equal_those_alone(solver):
    y0, ends, rate = starts(3), tensor(0.31, 0.2, -0.1), tensor([0.5], [15.0], [2.5])
    ts = torch.stack([0 * ends, ends / 3, ends], dim=1)
    batch = solve(decay, y0, ts, per_sample=True, solver=solver, dt=0.02, args=(rate,))
    for i, start in enumerate(y0):
        alone = solve(decay, start, ts[i], solver=solver, dt=0.02, args=(rate[i],))
        torch.testing.assert_close(batch.ys[:, i], alone.ys, rtol=1e-11, atol=1e-11)
        assert batch.stats.accepted[i] == alone.stats.accepted


@pytest.mark.parametrize(("gradient", "compact"), [("backprop", False), ("checkpointed", True)])
@pytest.mark.parametrize("solver", IMPLICIT)
def test_gradients_are_those_of_each_sample_alone(solver, gradient, compact):
    options = dict(rtol=1e-3, atol=1e-4) if solver in ADAPTIVE else dict(dt=0.1)
    weight, rate = tensor([0.3, -0.2], [0.1, 0.4]).requires_grad_(), tensor([0.5], [1.5], [5.0]).requires_grad_()
    y0, ts = starts(3).requires_grad_(), tensor([0.0, 0.5, 0.7], [0.3, 0.1, -0.6], [0.0, 0.1, 0.6])

    def f(t, y, rate):
        return torch.tanh(y @ weight) - rate * torch.cos(t) * y

    inputs, common = (y0, weight, rate), dict(solver=solver, gradient=gradient, **options)
    if compact:
        sol = solve(f, y0, ts, per_sample=True, args=(rate,), params=(weight,), **common)
    else:
        whole = lambda t, y: f(t, y, rate)  # noqa: E731
        sol = solve(whole, y0, ts, per_sample=True, compact=False, params=(weight, rate), **common)
    found = torch.autograd.grad((sol.ys**2).sum(), inputs)
    alone = [solve(f, y0[i], ts[i], args=(rate[i],), params=(weight,), **common).ys for i in range(3)]
    expected = torch.autograd.grad(sum((ys**2).sum() for ys in alone), inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", ["tsit5", "radau5", "kvaerno5", "rodas4"])
def test_complex_states(solver):
    """Of a nested state, one sample forward and one backward in time."""
    rates, y0, ts = tensor([1.0], [-0.5]) + 2.0j, tensor([1.0, 2.0], [3.0, 0.5]) + 0.5j, tensor([0.0, 1.0], [1.0, -1.0])
    f = lambda t, y, rate: {"a": -rate * y["a"] * torch.ones_like(t)}  # noqa: E731
    sol = solve(f, {"a": y0}, ts, per_sample=True, solver=solver, rtol=1e-7, atol=1e-9, args=(rates,))
    exact = y0 * torch.exp(-rates * ts.diff(dim=1))
    torch.testing.assert_close(sol.ys["a"][-1], exact, rtol=1e-5, atol=1e-7)


def rober(t, y, rates):
    a, b, c = y.unbind(-1)
    k1, k2, k3 = rates.unbind(-1)
    ab, bc, bb = k1 * a, k3 * b * c, k2 * b**2
    return torch.stack([-ab + bc, ab - bc - bb, bb], dim=-1)


@pytest.mark.parametrize("solver", ["kvaerno5", "gauss4", "radau5", "rodas4"])
def test_gradients_stay_numbers_beside_a_sample_that_failed(solver):
    y0, rate = tensor([2.0, 0.0], [0.5, 0.0]), tensor(0.1).requires_grad_()
    wall = lambda t, y: torch.where((t > 0.5) & (y[:, :1] > 1), torch.nan, -rate * y)  # noqa: E731
    options = dict(throw=False, compact=False, params=(rate,), dt=None if solver in ADAPTIVE else 0.1)
    sol = solve(wall, y0, [0.0, 3.0], per_sample=True, solver=solver, **options)
    (grad,) = torch.autograd.grad(sol.ys[-1, 1].sum(), rate)
    torch.testing.assert_close(grad, -3.0 * 0.5 * torch.exp(tensor(-0.3)), rtol=1e-4, atol=0)


RATES = tensor([0.04, 3e7, 1e4], [0.4, 3e6, 1e3], [0.01, 3e8, 1e4])


@functools.cache
def rober_by_scipy(sample):
    f = lambda t, y: rober(t, torch.tensor(y), RATES[sample]).numpy()  # noqa: E731
    return torch.tensor(solve_ivp(f, (0.0, 1e4), [1.0, 0.0, 0.0], method="Radau", rtol=1e-8, atol=1e-13).y[:, -1])


@pytest.mark.parametrize("solver", ["radau5", "kvaerno5", "rodas4"])
def test_stiff_kinetics_with_rates_of_each_sample(solver):
    y0, options = tensor([1.0, 0.0, 0.0]).expand(3, 3).contiguous(), dict(solver=solver, rtol=1e-5, atol=1e-9)
    sol = solve(rober, y0, [0.0, 1e4], per_sample=True, args=(RATES,), **options)
    for i, rate in enumerate(RATES):
        alone = solve(rober, y0[i], [0.0, 1e4], args=(rate,), **options).stats.accepted
        assert abs(sol.stats.accepted[i] - alone) <= 0.02 * alone
        torch.testing.assert_close(sol.ys[-1, i], rober_by_scipy(i), rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("solver", ["kvaerno5", "rodas4", "radau5", "gauss4"])
def test_a_failed_sample_stops_no_other(solver):
    y0, ts = tensor([2.0, 0.0], [0.5, 0.0]), [0.0, 0.1, 3.0]
    wall = lambda t, y: torch.where((t > 0.5) & (y[:, :1] > 1), torch.nan, -0.1 * y)  # noqa: E731
    options = dict(throw=False, dt=None if solver in ADAPTIVE else 0.1, compact=solver in ("kvaerno5", "radau5"))
    sol = solve(wall, y0, ts, per_sample=True, solver=solver, **options)
    assert sol.status[0] in ("nonfinite", "newton", "underflow") and sol.status[1] == "done"
    torch.testing.assert_close(sol.ys[1:, 1, 0], 0.5 * torch.exp(-0.1 * tensor(0.1, 3.0)), rtol=1e-4, atol=0)
    assert torch.isfinite(sol.ys[1, 0]).all() and torch.isnan(sol.ys[2, 0]).all() and 0.4 < sol.stats.t[0] <= 0.5


def test_a_fixed_step_too_large_for_newton_names_its_sample():
    f = lambda t, y, stiff: torch.where(stiff, van_der_pol(t, y), -y)  # noqa: E731
    y0, stiff = starts(4)[2:], torch.tensor([[False], [True]])
    with pytest.raises(NewtonDivergence, match="Newton's iteration diverged.*sample 1") as caught:
        solve(f, y0, [0.0, 3.0], per_sample=True, solver="implicit_euler", dt=0.02, args=(stiff,))
    assert caught.value.solution.status == ["done", "newton"]
