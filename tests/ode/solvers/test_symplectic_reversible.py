"""Symplectic methods keep the energy, reversible ones find back; extrapolation makes any method adaptive."""

import math

import pytest
import torch
from problems import NONAUTONOMOUS, kepler, kepler_energy, kepler_start, van_der_pol

import noderun
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.field import Autocast, VectorField
from noderun.ode.solvers.splitting import Splitting
from noderun.ode.solvers.state import Layout

SYMPLECTIC = [name for name, method in METHODS.items() if isinstance(method, Splitting)]
REVERSIBLE = [name for name, info in noderun.SOLVERS.items() if info.reversible]


def energy_errors(solver):
    """The largest in each of 1,000 periods of 40 steps, seen at eight places of the orbit."""
    dt = 2 * math.pi / 40
    ts = torch.arange(0, 1000 * 8 + 1, dtype=torch.float64) * 5 * dt
    with torch.no_grad():
        sol = noderun.solve(kepler, kepler_start(0.2), ts, solver=solver, dt=dt)
    return (kepler_energy(*sol.ys) + 0.5).abs()[1:].reshape(1000, 8).amax(1)


@pytest.mark.long
@pytest.mark.parametrize("solver", SYMPLECTIC)
def test_energy_error_on_kepler_stays_bounded_over_1000_periods(solver):
    error = energy_errors(solver)
    assert error[-100:].max() <= 1.5 * error[:100].max()


@pytest.mark.long
def test_energy_error_of_rk4_on_kepler_drifts():
    error = energy_errors("rk4")
    assert error[-100:].max() > 5 * error[:100].max()


@pytest.mark.parametrize("solver", SYMPLECTIC)
def test_step_preserves_the_symplectic_form(solver):
    y0 = torch.cat(kepler_start(0.3))

    def flow(y):
        q, p = noderun.solve(kepler, y.chunk(2), [0.0, 0.6], solver=solver, dt=0.2, gradient="backprop").ys
        return torch.cat([q[-1], p[-1]])

    jacobian = torch.autograd.functional.jacobian(flow, y0)
    eye, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    form = torch.cat([torch.cat([zero, eye], 1), torch.cat([-eye, zero], 1)])
    assert torch.allclose(jacobian.T @ form @ jacobian, form, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("solver", "calls"), [("semi_implicit_euler", 2), ("leapfrog", 2), ("yoshida4", 6)])
def test_nfe_counts_whole_calls_of_f(solver, calls):
    called = []

    def f(t, state):
        called.append(t)
        return kepler(t, state)

    with torch.no_grad():
        stats = noderun.solve(f, kepler_start(0.2), [0.0, 1.0], solver=solver, dt=0.1).stats
    carried = 1 if calls % 2 == 0 and solver != "semi_implicit_euler" else 0  # the first kick is the last one's later
    beyond = 6 if solver == "yoshida4" else 0  # a stage before the first step and one behind the last, four calls each
    assert stats.nfe_forward == len(called) == 10 * calls + carried + beyond


@pytest.mark.parametrize("solver", SYMPLECTIC)
def test_symplectic_gradient_and_refusals(solver):
    def grad(gradient):
        q, p = (x.clone().requires_grad_() for x in kepler_start(0.2))
        ys = noderun.solve(kepler, (q, p), [0.0, 0.33, 1.0], solver=solver, dt=0.1, gradient=gradient).ys
        return torch.autograd.grad(ys[0].square().sum() + ys[1][1].sum(), (q, p))

    for a, b in zip(grad("backprop"), grad("checkpointed"), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match="splits a state"):
        grad("adjoint")
    with pytest.raises(ValueError, match=r"state \(q, p\)"):
        noderun.solve(lambda t, y: -y, torch.ones(2), [0, 1], solver=solver, dt=0.1)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_forward_and_back_is_the_start_to_round_off(name):
    method, y0 = METHODS[name], NONAUTONOMOUS.y0
    field = VectorField(NONAUTONOMOUS.f, Layout.of(y0), (), Autocast("cpu"))
    with torch.no_grad():
        work, y, t, h, past = method.start(y0), y0, 0.1, 0.01, []
        for _ in range(200):
            step = method.step(field, t, y, h, work, estimate=False)
            past.append((t, y))
            y, t = step.y1, t + h
            method.accept(work)
        aux = method.snapshot(work)[0]
        assert (y - y0).abs().max() > 0.5
        for t, before in reversed(past):
            y, aux = method.reverse(field, t, h, y, aux)
            assert torch.allclose(y, before, rtol=0, atol=1e-12)
    assert field.nfe == 401


@pytest.mark.parametrize("method", ["euler", "midpoint", "rk4"])
def test_extrapolation_makes_a_fixed_step_method_adaptive(method):
    errors = []
    for tol in (1e-4, 1e-6):
        with torch.no_grad():
            sol = noderun.solve(NONAUTONOMOUS.f, NONAUTONOMOUS.y0, [0.1, 2.1], solver="richardson",
                                solver_options={"method": method}, rtol=tol, atol=tol)  # fmt: skip
        errors.append((sol.ys[-1] - NONAUTONOMOUS.at(2.1)).abs().max().item())
        assert errors[-1] < 20 * tol
    assert errors[1] < errors[0] / 20


def test_extrapolation_of_what_cannot_be_says_what_can():
    with pytest.raises(ValueError, match="cannot extrapolate 'adams_bashforth'"):
        noderun.solve(lambda t, y: -y, torch.ones(1), [0, 1], solver="richardson",
                      solver_options={"method": "adams_bashforth"})  # fmt: skip


@pytest.mark.parametrize("solver", ["reversible_heun", "asynchronous_leapfrog"])
def test_adaptive_reversible_steps_do_not_follow_a_track_that_left_the_solution(solver):
    for f, y0 in [(lambda t, y: -y, [1.0]), (lambda t, y: van_der_pol(y, 1.0), [2.0, 0.0])]:
        y0 = torch.tensor(y0, dtype=torch.float64, requires_grad=True)
        options = dict(rtol=1e-4, atol=1e-4)
        other = noderun.solve(f, y0, [0.0, 10.0], solver="adaptive_heun", **options)
        exact = noderun.solve(f, y0, [0.0, 10.0], solver="dop853", rtol=1e-10, atol=1e-10)
        sol = noderun.solve(f, y0, [0.0, 10.0], solver=solver, **options)
        assert sol.stats.accepted + sol.stats.rejected < 1.5 * other.stats.accepted
        torch.testing.assert_close(sol.ys[-1], exact.ys[-1], rtol=0, atol=5e-4)
        grads = [torch.autograd.grad(s.ys[-1].square().sum(), y0)[0] for s in (sol, exact)]
        torch.testing.assert_close(*grads, rtol=0, atol=5e-3)
        back = noderun.solve(f, y0, [0.0, 10.0], solver=solver, gradient="reversible", **options)
        torch.testing.assert_close(torch.autograd.grad(back.ys[-1].square().sum(), y0)[0], grads[0])
