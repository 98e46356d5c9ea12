"""Gradients on a fixed path: against backprop, against finite differences, and in memory."""

import pytest
import torch
from sde_problems import METHODS, Net
from torch.autograd.graph import saved_tensors_hooks

import noderun
from noderun.sde import SOLVERS

NOISES = ("diagonal", "scalar", "general", "additive")
Y0 = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


def loss(net, y0, noise, gradient, solver="heun", interpretation="stratonovich", args=(), **steps):
    sol = noderun.sdesolve(
        lambda t, y, scale: scale * net.f(t, y),
        lambda t, y, scale: getattr(net, noise)(t, y),
        y0,
        [0.0, 0.5, 1.0],
        noise=noise,
        solver=solver,
        interpretation=interpretation,
        gradient=gradient,
        params=net.parameters(),
        args=args or (torch.ones((), dtype=torch.float64),),
        seed=5,
        **(steps or {"dt": 1 / 32}),
    )
    return sol.ys[1:].square().sum(), sol


def gradient_of(noise, gradient, **told):
    net, y0, scale = Net(), Y0.clone().requires_grad_(), torch.ones((), dtype=torch.float64, requires_grad=True)
    value, sol = loss(net, y0, noise, gradient, args=(scale,), **told)
    grads = torch.autograd.grad(value, [y0, scale, *net.parameters()], allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in grads]), sol


def distance(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def combinations():
    return [(s, i, n) for s, i in METHODS for n in NOISES if n in SOLVERS[s].noises]


@pytest.mark.parametrize(("solver", "interpretation", "noise"), combinations())
def test_every_gradient_of_every_method(solver, interpretation, noise):
    """Discrete ones are backprop's to round-off; the adjoint's error falls with the steps."""
    told = {"solver": solver, "interpretation": interpretation}
    exact, _ = gradient_of(noise, "backprop", **told)
    assert distance(gradient_of(noise, "checkpointed", **told)[0], exact) < 1e-14
    if solver == "reversible_heun":
        found, sol = gradient_of(noise, "reversible", **told)
        assert distance(found, exact) < 1e-14 and sol.stats.reconstruction_error < 1e-14
    errors = []
    for dt in (1 / 16, 1 / 64):
        exact, _ = gradient_of(noise, "backprop", dt=dt, **told)
        errors.append(distance(gradient_of(noise, "adjoint", dt=dt, **told)[0], exact))
    assert errors[1] < 0.35 * errors[0] and errors[1] < 0.02


@pytest.mark.parametrize(
    ("gradient", "solver"),
    [("backprop", "heun"), ("adjoint", "heun"), ("adjoint", "midpoint"), ("reversible", "reversible_heun")],
)
@pytest.mark.parametrize("noise", NOISES)
def test_against_finite_differences_on_a_fixed_path(gradient, solver, noise):
    """The derivative along one direction in all parameters and y0; the adjoint's differs by the error of the steps."""
    dt, allowed = (1 / 256, 2e-4) if gradient == "adjoint" else (1 / 32, 1e-8)
    found, _ = gradient_of(noise, gradient, solver=solver, dt=dt)
    net, generator = Net(), torch.Generator().manual_seed(1)
    places = [Y0, torch.ones((), dtype=torch.float64), *net.parameters()]
    direction = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in places]

    def value(step):
        with torch.no_grad():
            moved = Net()
            for p, d in zip(moved.parameters(), direction[2:], strict=True):
                p += step * d
            args = (places[1] + step * direction[1],)
            return loss(moved, Y0 + step * direction[0], noise, gradient, solver=solver, args=args, dt=dt)[0]

    difference = (value(1e-5) - value(-1e-5)) / 2e-5
    along = found @ torch.cat([d.flatten() for d in direction])
    assert along.item() == pytest.approx(difference.item(), rel=allowed)


@pytest.mark.parametrize(("solver", "interpretation"), [("euler", "ito"), ("heun", "stratonovich")])
def test_gradients_of_adaptive_steps(solver, interpretation):
    told = {"solver": solver, "interpretation": interpretation, "rtol": 1e-3, "atol": 1e-3}
    exact, sol = gradient_of("diagonal", "backprop", **told)
    assert sol.stats.rejected > 0
    assert distance(gradient_of("diagonal", "checkpointed", **told)[0], exact) < 1e-14
    assert distance(gradient_of("diagonal", "adjoint", **told)[0], exact) < 0.03


def saved_bytes(gradient, n, solver="reversible_heun"):
    """Held for the backward pass, each storage once."""
    net, y0, found = Net(), torch.zeros(256, 3, dtype=torch.float64, requires_grad=True), {}

    def pack(x):
        found[x.untyped_storage().data_ptr()] = (x, x.untyped_storage().nbytes())
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        loss(net, y0, "diagonal", gradient, solver=solver, dt=1 / n)
    return sum(size for _, size in found.values())


def test_memory_over_steps():
    for gradient in ("adjoint", "reversible"):
        assert saved_bytes(gradient, 64) == saved_bytes(gradient, 16)
    assert saved_bytes("checkpointed", 64) > 3 * saved_bytes("checkpointed", 16)
    assert saved_bytes("backprop", 64, "heun") > 3 * saved_bytes("checkpointed", 64, "heun")


def test_checkpoints_limit_the_states_held():
    net, y0 = Net(), Y0.clone().requires_grad_()
    few = noderun.sdesolve(net.f, net.diagonal, y0, [0.0, 1.0], dt=1 / 64, gradient_options={"checkpoints": 4}, seed=5)
    all_held = noderun.sdesolve(net.f, net.diagonal, y0, [0.0, 1.0], dt=1 / 64, seed=5)
    wanted = [y0, *net.parameters()]
    for a, b in zip(
        *(torch.autograd.grad(sol.ys[-1].sum(), wanted, allow_unused=True) for sol in (few, all_held)), strict=True
    ):
        assert a is b is None or torch.equal(a, b)
    assert few.stats.nfe_backward > all_held.stats.nfe_backward
