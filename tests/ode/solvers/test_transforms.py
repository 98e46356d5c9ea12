"""Fixed steps under torch.func and forward mode, double backward, and complex states under every gradient."""

import math
from functools import cache

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import noderun
from noderun import Event, solve
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta

EXPLICIT = sorted(name for name, method in METHODS.items() if isinstance(method, ExplicitRungeKutta))
ADAPTIVE = sorted(name for name in EXPLICIT if noderun.SOLVERS[name].adaptive and noderun.SOLVERS[name].order >= 4)


def pendulum(t, y):
    return torch.stack([y[1], -torch.sin(y[0]) - 0.1 * t * y[1]])


def end(y0, solver, **options):
    return solve(pendulum, y0, [0.0, 0.3, 1.0], solver=solver, dt=0.25, gradient="backprop", **options).ys


@pytest.mark.parametrize("solver", EXPLICIT)
def test_fixed_steps_under_transforms(solver):
    y0 = torch.tensor([[1.0, 0.2], [0.3, -0.4], [2.0, 0.0]], dtype=torch.float64)
    mapped = torch.vmap(lambda y: end(y, solver), out_dims=1)(y0)
    torch.testing.assert_close(mapped, torch.stack([end(y, solver) for y in y0], dim=1), rtol=1e-13, atol=1e-14)
    jacobian = torch.autograd.functional.jacobian(lambda y: end(y, solver), y0[0])
    tangent = torch.tensor([0.3, -0.7], dtype=torch.float64)
    for forward in (torch.func.jacfwd, torch.func.jacrev):
        torch.testing.assert_close(forward(lambda y: end(y, solver))(y0[0]), jacobian, rtol=1e-12, atol=1e-13)
    value, moved = torch.func.jvp(lambda y: end(y, solver), (y0[0],), (tangent,))
    torch.testing.assert_close(moved, jacobian @ tangent, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(value, end(y0[0], solver), rtol=1e-13, atol=1e-14)
    jacobians = torch.vmap(torch.func.jacrev(lambda y: end(y, solver)))(y0)
    torch.testing.assert_close(jacobians[0], jacobian, rtol=1e-12, atol=1e-13)


def test_adaptive_steps_under_transforms_are_refused():
    with pytest.raises(TypeError, match="give dt="):
        torch.vmap(lambda y: solve(pendulum, y, [0.0, 1.0]).ys)(torch.ones(3, 2))


@pytest.mark.parametrize("solver", EXPLICIT)
def test_backprop_is_twice_differentiable(solver):
    def loss(y0, length):
        f = lambda t, y, length: torch.stack([y[1], -torch.sin(y[0]) / length])  # noqa: E731
        return solve(f, y0, [0.0, 0.3, 1.0], solver=solver, dt=0.25, args=(length,), gradient="backprop").ys

    inputs = [torch.tensor([1.0, 0.2]).double(), torch.tensor(1.2).double()]
    assert gradgradcheck(loss, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("gradient", ["backprop", "checkpointed", "adjoint"])
@pytest.mark.parametrize("solver", ADAPTIVE)
def test_gradients_of_complex_states(gradient, solver):
    def ys(y0, rate):
        f = lambda t, y, rate: rate * y - 0.1 * y * (y.abs() ** 2)  # noqa: E731
        options = dict(rtol=1e-10, atol=1e-11)
        return solve(f, y0, [0.0, 0.2, 0.5], solver=solver, args=(rate,), gradient=gradient, **options).ys

    y0 = torch.tensor([1.0 + 0.5j, -0.3j], dtype=torch.complex128, requires_grad=True)
    rate = torch.tensor(-0.2 + 2.0j, dtype=torch.complex128, requires_grad=True)
    assert gradcheck(ys, (y0, rate), eps=1e-5, atol=1e-4)


@cache
def nested_complex(solver, gradient, **options):
    """The end of a solve, and a gradient."""

    def f(t, y, rate):
        a, b = y["a"], y["b"]
        return {"a": rate * a - 0.1 * a * (b.abs() ** 2), "b": -1j * torch.conj(b) + 0.2 * a * t}

    y0 = {"a": torch.tensor([1.0 + 0.5j, -0.3j]), "b": torch.tensor([0.2 - 0.1j, 0.4 + 0j])}
    y0 = {key: x.to(torch.complex128).requires_grad_() for key, x in y0.items()}
    rate = torch.tensor(-0.2 + 2.0j, dtype=torch.complex128, requires_grad=True)
    ys = solve(f, y0, [0.0, 0.3, 0.5], solver=solver, args=(rate,), gradient=gradient, **options).ys
    loss = (ys["a"][1:] * (1 + 2j)).real.sum() + ys["b"].abs().square().sum()
    return ys["a"][-1].detach(), torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, [rate, *y0.values()])])


@pytest.mark.parametrize("gradient", ["backprop", "checkpointed", "adjoint"])
@pytest.mark.parametrize("solver", sorted(name for name, info in noderun.SOLVERS.items() if info.implicit))
def test_complex_states_of_implicit_solvers(gradient, solver):
    """A nested complex state that is neither analytic in y nor free of coupling, against an explicit solver."""
    info = noderun.SOLVERS[solver]
    fine = {"rtol": 1e-8, "atol": 1e-8} if info.adaptive and (info.order or 5) >= 4 else {}
    fine = fine or ({"dt": 1e-2} if info.fixed_step else {"rtol": 1e-6, "atol": 1e-6})
    end, grad = nested_complex(solver, gradient, **fine)
    exact_end, exact_grad = nested_complex("dopri5", "backprop", rtol=1e-11, atol=1e-12)
    assert (end - exact_end).abs().max() < (2e-2 if info.order == 1 else 1e-4)
    assert (grad - exact_grad).norm() / exact_grad.norm() < (5e-2 if info.order == 1 else 1e-3)


@pytest.mark.parametrize("gradient", ["backprop", "checkpointed"])
def test_complex_states_with_times_of_their_own_and_events(gradient):
    def crossing(y0):
        f = lambda t, y: 1j * y * torch.ones_like(t)  # noqa: E731
        event = Event(lambda t, y: y.real[:, 0], terminal=False)
        sol = solve(f, y0, [0.0, 2.0], per_sample=True, events=event, gradient=gradient, rtol=1e-10, atol=1e-11)
        return sol.events[0].ts[0]

    angles = torch.tensor([[0.1], [0.7]], dtype=torch.float64)
    y0 = torch.polar(torch.ones_like(angles), angles).requires_grad_()
    times = crossing(y0)
    torch.testing.assert_close(times, math.pi / 2 - angles[:, 0], rtol=0, atol=1e-8)
    assert gradcheck(crossing, (y0,), atol=1e-5)
