"""Adams methods: classical coefficients, tolerances, cost beside VODE's, and gradients through the history."""

import numpy as np
import pytest
import torch
from problems import NONAUTONOMOUS
from scipy.integrate import ode, solve_ivp

import noderun
from noderun.ode.solvers.multistep import weights


@pytest.mark.parametrize(
    ("nodes", "classical"),
    [
        ([0, -1], np.array([3, -1]) / 2),
        ([0, -1, -2, -3], np.array([55, -59, 37, -9]) / 24),
        ([1, 0, -1], np.array([5, 8, -1]) / 12),
        ([1, 0, -1, -2, -3], np.array([251, 646, -264, 106, -19]) / 720),
    ],
)
def test_weights_on_equal_steps_are_the_classical_ones(nodes, classical):
    assert np.allclose(weights(nodes), classical, rtol=0, atol=1e-14)


def test_weights_integrate_polynomials_exactly_on_any_grid():
    nodes = [1.0, 0.0, *(-np.cumsum(np.random.default_rng(0).uniform(0.3, 2, 11)))]
    for m in range(len(nodes)):
        terms = np.multiply(weights(nodes, 0.7), np.power(nodes, m))
        assert abs(terms.sum() - 0.7 ** (m + 1) / (m + 1)) < 1e-14 * abs(terms).sum() + 1e-14


@pytest.mark.parametrize(("span", "condition"), [((0.1, 6.1), 50), ((6.1, 0.1), 2e4)])
def test_adams_error_is_proportional_to_the_tolerance(span, condition):
    tolerances = np.logspace(-3, -11, 9)
    errors = []
    for tol in tolerances:
        ts = torch.linspace(*span, 50, dtype=torch.float64)
        with torch.no_grad():
            sol = noderun.solve(NONAUTONOMOUS.f, NONAUTONOMOUS.at(span[0]), ts, solver="adams", rtol=tol, atol=tol)
        errors.append((sol.ys - torch.stack([NONAUTONOMOUS.at(t) for t in ts.tolist()])).abs().max().item())
    assert all(error < condition * tol for error, tol in zip(errors, tolerances, strict=True))
    assert 0.85 < np.polyfit(np.log(tolerances), np.log(errors), 1)[0] < 1.15


def vode(f, y0, t1, tol):
    calls = []
    solver = ode(lambda t, y: calls.append(t) or f(t, y))
    solver.set_integrator("vode", method="adams", rtol=tol, atol=tol, nsteps=10**5)
    return solver.set_initial_value(y0, 0.0).integrate(t1), len(calls)


def test_adams_costs_no_more_than_vode_at_equal_error():
    f, y0, t1 = lambda t, y: [1.5 * y[0] - y[0] * y[1], -3 * y[1] + y[0] * y[1]], [1.0, 1.0], 10.0
    exact = solve_ivp(f, (0, t1), y0, method="DOP853", rtol=3e-14, atol=1e-14).y[:, -1]
    ours, theirs = [], []
    for tol in np.logspace(-4, -9, 11):
        field = lambda t, y: torch.stack(f(t, y.unbind()))  # noqa: E731
        with torch.no_grad():
            start = torch.tensor(y0, dtype=torch.float64)
            sol = noderun.solve(field, start, [0, t1], solver="adams", rtol=tol, atol=tol)
        ours.append((np.abs(sol.ys[-1].numpy() - exact).max(), sol.stats.nfe_forward))
        end, nfe = vode(f, y0, t1, tol)
        theirs.append((np.abs(end - exact).max(), nfe))
    fits = [np.polyfit(np.log([e for e, _ in runs]), np.log([n for _, n in runs]), 1) for runs in (ours, theirs)]
    at = np.log(1e-6)
    assert np.polyval(fits[0], at) <= np.polyval(fits[1], at)


def test_each_accepted_step_costs_two_evaluations_and_each_rejected_one():
    stats = noderun.solve(lambda t, y: -y * y, torch.ones(1), [0.0, 9.0], solver="adams", rtol=1e-4, atol=1e-4).stats
    assert stats.nfe_forward == 1 + 2 * stats.accepted + stats.rejected  # one more for the first step size


SOLVES = [("adams_bashforth", 0.1), ("adams_moulton", 0.1), ("adams", None), ("asynchronous_leapfrog", 0.1),
          ("reversible_heun", 0.1), ("asynchronous_leapfrog", None), ("reversible_heun", None)]  # fmt: skip


def gradients(solver, dt, gradient):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()

    class Field(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, t, y):
            return self.net(y) + torch.sin(3 * t) * y

    y0 = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
    ts = [0.0, 0.43, 0.55, 1.2]
    sol = noderun.solve(Field(), y0, ts, solver=solver, dt=dt, rtol=1e-5, atol=1e-5, gradient=gradient)
    sol.ys.square().sum().backward()
    return sol.ys.detach(), [y0.grad, *(p.grad for p in net.parameters())], sol.stats


@pytest.mark.parametrize(("solver", "dt"), SOLVES)
def test_checkpointed_gradient_of_methods_with_memory_is_backprops(solver, dt):
    ys, expected, _ = gradients(solver, dt, "backprop")
    again, found, _ = gradients(solver, dt, "checkpointed")
    assert torch.equal(ys, again)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("solver", "dt"), SOLVES)
def test_adjoint_gradient_of_methods_with_memory_is_near_backprops(solver, dt):
    _, expected, _ = gradients(solver, dt, "backprop")
    _, found, stats = gradients(solver, dt, "adjoint")
    assert stats.nfe_backward > 0
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, rtol=2e-2, atol=2e-2 * a.abs().max().item())


@pytest.mark.parametrize(
    ("solver", "order", "message"), [("adams_moulton", 6, "orders 1 to 5, not 6"), ("rk4", 4, "has no option 'order'")]
)
def test_order_that_there_is_not_says_so(solver, order, message):
    with pytest.raises(ValueError, match=message):
        noderun.solve(lambda t, y: -y, torch.ones(1), [0, 1], solver=solver, solver_options={"order": order}, dt=0.1)
