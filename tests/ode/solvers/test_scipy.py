"""scipy's solvers through solve(): their own numbers, and a gradient by the adjoint."""

import numpy as np
import pytest
import torch
from problems import NONAUTONOMOUS
from scipy.integrate import solve_ivp

import noderun
from noderun.ode.solvers.scipy import NAMES


def reference(method, **options):
    f = lambda t, y: NONAUTONOMOUS.f(torch.tensor(t, dtype=torch.float64), torch.tensor(y)).numpy()  # noqa: E731
    return solve_ivp(f, (0.1, 2.1), NONAUTONOMOUS.y0.numpy(), method, rtol=1e-6, atol=1e-6, **options)


def solve(method, ts):
    return noderun.solve(NONAUTONOMOUS.f, NONAUTONOMOUS.y0, ts, solver="scipy", solver_options={"method": method},
                         rtol=1e-6, atol=1e-6, gradient="adjoint")  # fmt: skip


@pytest.mark.parametrize("method", NAMES)
def test_outputs_are_those_of_solve_ivp(method):
    ts = np.linspace(0.1, 2.1, 11)
    assert np.allclose(solve(method, ts).ys.numpy(), reference(method, t_eval=ts).y.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", NAMES)
def test_statistics_are_those_of_solve_ivp_with_the_calls_for_jacobians(method):
    stats, expected = solve(method, [0.1, 2.1]).stats, reference(method)
    jacobians = expected.njev if method in ("Radau", "BDF") else 0  # LSODA counts their calls itself
    assert expected.nfev + 2 * jacobians <= stats.nfe_forward <= expected.nfev + 3 * jacobians
    assert stats.accepted == len(expected.t) - 1


@pytest.mark.parametrize("method", ["RK45", "Radau", "LSODA"])
def test_adjoint_gradient_is_that_of_our_own_solver(method):
    def grad(**how):
        torch.manual_seed(0)
        field = torch.nn.Linear(2, 2).double()
        y0 = torch.tensor([1.0, 0.5], dtype=torch.float64, requires_grad=True)
        f = type("F", (torch.nn.Module,), {"forward": lambda self, t, y: torch.tanh(field(y)) * (1 + t)})()
        sol = noderun.solve(f, y0, [0.0, 0.7, 1.5], params=field.parameters(), rtol=1e-8, atol=1e-8, **how)
        return torch.autograd.grad(sol.ys[1:].square().sum(), (y0, *field.parameters()))

    found = grad(solver="scipy", solver_options={"method": method}, gradient="adjoint")
    for a, b in zip(grad(solver="dopri5", gradient="backprop"), found, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_other_gradients_are_refused():
    with pytest.raises(ValueError, match="use gradient='adjoint'"):
        noderun.solve(lambda t, y: -y, torch.ones(1), [0, 1], solver="scipy")
