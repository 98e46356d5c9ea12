"""torchdiffeq's signatures over this engine, against the installed torchdiffeq on values and gradients."""

import importlib
import math
import warnings

import pytest
import torch
import torchdiffeq as theirs
from torch.autograd import gradcheck

import noderun as ours
from noderun.ode.torchdiffeq_options import ADAPTIVE, FIXED, NAMES

SHARED = sorted(set(importlib.import_module("torchdiffeq._impl.odeint").SOLVERS) & {*ADAPTIVE, *FIXED})
# (arguments, how near): what both step alike agrees to round-off. Adaptive steps are chosen but not read off alike
# (their dopri8 and bosh3 interpolate by a quartic through a midpoint of lower order), and their adaptive_heun and
# fehlberg2 take f at the predictor for f(y1); Adams methods start and change order differently.
ADAMS = dict(options=dict(step_size=0.0125, max_order=5))
AGREEMENT = {
    "dopri5": (dict(rtol=1e-9, atol=1e-10), 1e-7),
    "dopri8": (dict(rtol=1e-9, atol=1e-10), 1e-4),
    "bosh3": (dict(rtol=1e-7, atol=1e-8), 5e-3),
    "fehlberg2": (dict(rtol=1e-5, atol=1e-6), 5e-2),
    "adaptive_heun": (dict(rtol=1e-4, atol=1e-5), 1e-2),
    "explicit_adams": (ADAMS, 2e-3),
    "implicit_adams": (ADAMS, 5e-5),
    "fixed_adams": (ADAMS, 5e-5),
}


class Spiral(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=torch.float64))

    def forward(self, t, y):
        return (y**3 * torch.cos(t / 2)) @ self.matrix


def gradients(package, method, interface, arguments):
    f, y0 = Spiral(), torch.tensor([[1.2, 0.3]], dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
    y = getattr(package, interface)(f, y0, t, method=method, **arguments)
    return y.detach(), *torch.autograd.grad((y[1:] ** 2).sum(), (y0, f.matrix))


@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("method", SHARED)
def test_values_and_gradients_are_theirs(method, interface):
    arguments, bound = AGREEMENT.get(method, (dict(options=dict(step_size=0.025)), 1e-12))
    pairs = zip(*(gradients(package, method, interface, arguments) for package in (ours, theirs)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=bound, atol=bound)


@pytest.mark.parametrize("method", sorted(set(NAMES) - {"scipy_solver"}))
def test_every_name_solves_and_a_wrong_one_gets_the_nearest(method):
    t = torch.linspace(1.0, 0.0, 41, dtype=torch.float64)
    y0 = torch.ones((), dtype=torch.float64)
    y = ours.odeint(lambda t, y: -y, y0, t, method=method)
    torch.testing.assert_close(y, torch.exp(1 - t), rtol=3e-2, atol=0)
    assert torch.equal(ours.odeint(lambda t, y: -y, y0, t[:1], method=method), y0[None])
    with pytest.raises(ValueError, match="method"):
        ours.odeint(lambda t, y: -y, y0, t, method=method + "x")


def test_tuples_with_a_tolerance_and_a_norm_of_their_own():
    y0, t = (torch.zeros(()), torch.ones(2, 2)), torch.tensor([0.0, 1.0])
    f = lambda t, y: (y[1].mean(), -y[0].expand(2, 2))  # noqa: E731
    shapes = []

    def norm(state):
        shapes.append([tuple(x.shape) for x in state])
        return max(x.abs().max() for x in state)

    for options in ({}, dict(norm=norm)):
        a, b = ours.odeint(f, y0, t, rtol=(1e-6, 1e-5), atol=(1e-6, torch.tensor(1e-7)), options=options)
        torch.testing.assert_close(a[-1], torch.tensor(math.sin(1.0)), rtol=1e-4, atol=0)
        torch.testing.assert_close(b[-1], torch.full((2, 2), math.cos(1.0)), rtol=1e-4, atol=0)
    assert set(map(tuple, shapes)) == {((), (2, 2))}


def test_a_norm_of_the_adjoint_sees_their_tuple():
    f, seen = Spiral(), []

    def norm(state):
        seen.append([tuple(x.shape) for x in state])
        return max(x.abs().max() for x in state)

    y = ours.odeint_adjoint(f, torch.ones(1, 2).double(), torch.tensor([0.0, 1.0]), adjoint_options=dict(norm=norm))
    y.sum().backward()
    assert all(shapes == [(), (1, 2), (1, 2), (2, 2)] for shapes in seen) and seen


def test_grids():
    f, x0, t = (lambda t, x: x), torch.tensor(1.0, requires_grad=True), torch.tensor([0.0, 1.0])
    grids = []

    def grid_constructor(func, y0, t):
        grids.append(t.tolist())
        return torch.linspace(t[0], t[-1], 11)

    options = dict(grid_constructor=grid_constructor)
    x1 = ours.odeint_adjoint(f, x0, t, method="euler", options=options, adjoint_params=())[1]
    x1.backward()
    assert grids == [[0.0, 1.0], [1.0, 0.0]]
    torch.testing.assert_close(x1.detach(), torch.tensor(1.1**10))
    torch.testing.assert_close(x0.grad, torch.tensor(1.1**10))
    for wrong in (lambda *_: torch.tensor([0.0, 0.5]), None):
        options = dict(grid_constructor=wrong) if wrong else dict(step_size=0.1, **options)
        with pytest.raises(ValueError, match="grid"):
            ours.odeint(f, x0, t, method="euler", options=options)
    by_t = ours.odeint(f, x0, torch.tensor([0.0, 0.5, 1.0]), method="euler")
    torch.testing.assert_close(by_t.detach(), torch.tensor([1.0, 1.5, 2.25]))


@pytest.mark.parametrize("method", ["euler", "rk4", "heun2"])
@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
def test_perturb_keeps_f_off_the_grid(method, interface):
    seen = []

    def f(t, y):
        seen.append(t.item())
        return -y

    y0, t = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.tensor([0.0, 1.0])
    params = dict(adjoint_params=()) if interface == "odeint_adjoint" else {}
    options = dict(step_size=0.5, perturb=True)
    y = getattr(ours, interface)(f, y0, t, method=method, options=options, **params)
    y.sum().backward()
    assert not {0.0, 0.5, 1.0} & set(seen) and min(abs(x - 0.5) for x in seen) < 1e-15


@pytest.mark.parametrize("key", ["jump_t", "step_t"])
def test_a_discontinuity_that_is_named_costs_less(key):
    calls = {}

    def solve(name, **options):
        def f(t, y):
            calls[name] = calls.get(name, 0) + 1
            return torch.where(t < 0.5, -0.5 * y, y**2)

        return ours.odeint(f, torch.tensor([1.0, 2.0]).double(), torch.tensor([0.0, 1.0]), rtol=1e-9, options=options)

    blind, told = solve("blind"), solve("told", **{key: torch.tensor([0.5])})
    assert calls["told"] < calls["blind"]
    half = torch.tensor([1.0, 2.0]).double() * math.exp(-0.25)
    torch.testing.assert_close(told[-1], half / (1 - half / 2), rtol=1e-7, atol=0)
    torch.testing.assert_close(blind[-1], told[-1], rtol=1e-5, atol=0)


def test_callbacks_and_warnings():
    f, calls = Spiral(), []
    names = ("callback_step", "callback_accept_step", "callback_reject_step")
    for name in (*names, *(name + "_adjoint" for name in names)):
        setattr(f, name, lambda t0, y0, dt, name=name: calls.append((name, t0.item(), dt.item(), y0)))
    y0, t = torch.ones(1, 2).double(), torch.tensor([1.0, 0.0])
    ours.odeint_adjoint(f, y0, t, rtol=1e-6).sum().backward()
    count = {name: sum(call[0] == name for call in calls) for name in (*names, *(n + "_adjoint" for n in names))}
    assert count["callback_step"] == count["callback_accept_step"] + count["callback_reject_step"] > 0
    assert count["callback_step_adjoint"] > 0
    assert all(dt > 0 for _, _, dt, _ in calls)
    assert all(isinstance(y, tuple) == name.endswith("adjoint") for name, _, _, y in calls)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours.odeint(f, y0, t, method="euler", options=dict(stepsize=0.5))
    said = [str(warning.message) for warning in caught]
    assert any("does not know the options ['stepsize']" in text for text in said)
    assert any("does not call ['callback_accept_step', 'callback_reject_step']" in text for text in said)


def test_an_adjoint_method_of_its_own():
    f, y0, t = Spiral(), torch.ones(1, 2).double(), torch.tensor([0.0, 1.0])
    results = []
    for kwargs in ({}, dict(adjoint_method="rk4", adjoint_options=dict(step_size=0.01))):
        f.matrix.grad = None
        ours.odeint_adjoint(f, y0, t, rtol=1e-9, **kwargs).sum().backward()
        results.append(f.matrix.grad)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
    assert not torch.equal(*results)
    with pytest.raises(ValueError, match="adjoint_options too"):
        ours.odeint_adjoint(f, y0, t, options=dict(first_step=0.1), adjoint_method="rk4")
    with pytest.raises(ValueError, match="adjoint_params"):
        ours.odeint_adjoint(lambda t, y: y, y0, t)


@pytest.mark.parametrize("interface", ["odeint", "odeint_adjoint"])
@pytest.mark.parametrize("reverse", [False, True])
def test_events_are_theirs(interface, reverse):
    def crossing(package, t0):
        f = Spiral()
        y0 = torch.tensor([[1.2, 0.3]], dtype=torch.float64, requires_grad=True)
        event_fn = lambda t, y: torch.stack([y[0, 0] - 0.4, y[0, 1] - 1.1 - t])  # noqa: E731
        t, y = package.odeint_event(
            f, y0, t0, event_fn=event_fn, reverse_time=reverse, rtol=1e-9, odeint_interface=getattr(package, interface)
        )
        return t.detach(), y.detach(), *torch.autograd.grad(t + y[-1].sum(), (y0, f.matrix))

    t0 = torch.tensor(0.2, dtype=torch.float64)
    for a, b in zip(crossing(ours, t0), crossing(theirs, t0), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_an_event_reaches_everything_it_depends_on():
    def time(y0, level, t0):
        return ours.odeint_event(lambda t, y: -y * t, y0, t0, event_fn=lambda t, y: y.sum() - level, rtol=1e-10)[0]

    inputs = [torch.tensor([2.0, 1.0]).double(), torch.tensor(1.0).double(), torch.tensor(0.5).double()]
    assert gradcheck(time, [x.requires_grad_() for x in inputs])


def test_the_names_of_both_kinds_are_all_solvers_here():
    assert set(NAMES.values()) <= set(ours.SOLVERS)
    assert all(ours.SOLVERS[name].adaptive for name in ADAPTIVE.values())
    assert all(ours.SOLVERS[name].fixed_step for name in FIXED.values())


@pytest.mark.parametrize("options", [{}, {"perturb": True}])
def test_a_functional_call_gives_odeint_adjoint_the_parameters_it_was_called_with(options):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.f = Timed(torch.nn.Linear(2, 2, dtype=torch.float64))

        def forward(self, y0):
            t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
            ys = ours.odeint_adjoint(self.f, y0, t, method="rk4", options={"step_size": 0.05, **options})
            return ys.square().sum()

    model, y0 = Model(), torch.tensor([0.7, -0.4], dtype=torch.float64)
    swapped = {name: (1.3 * p).detach().requires_grad_() for name, p in model.named_parameters()}
    value = torch.func.functional_call(model, swapped, (y0,))
    found = torch.autograd.grad(value, list(swapped.values()))
    model.load_state_dict({**model.state_dict(), **{name: p.detach() for name, p in swapped.items()}})
    expected = torch.autograd.grad(model(y0), list(model.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


class Timed(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y):
        return torch.tanh(self.net(y)) * torch.cos(t)
