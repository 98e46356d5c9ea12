"""Attempts that decide on the device: steps, counts and numbers of the host's, one wait a solve, no stale graph.

A CUDA graph replays functions that also run on a CPU, uncaptured, where these tests run them; with a GPU there as well.
"""

import gc
import warnings
import weakref

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import noderun
from noderun.ode.arguments import on_device
from noderun.ode.solvers import METHODS, configure_method
from noderun.ode.solvers.captured.capture import Capture
from noderun.ode.solvers.captured.runge_kutta import GRAPHS, CapturedRungeKutta, captured
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta

EXPLICIT = [name for name, method in METHODS.items() if isinstance(method, ExplicitRungeKutta)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
TS = [0.0, 0.3, 0.31, 2.0]
F64 = torch.float64


class Net(nn.Module):
    def __init__(self, seed=0, scale=1.0):
        super().__init__()
        generator, self.scale = torch.Generator().manual_seed(seed), scale
        self.a, self.b = (nn.Parameter(torch.randn(3, 3, generator=generator, dtype=F64)) for _ in range(2))

    def forward(self, t, y):
        return self.scale * torch.tanh(y @ self.a + t) @ self.b


def start(device="cpu"):
    return torch.linspace(-1, 1, 12, dtype=F64, device=device).reshape(4, 3)


def eager(f, y0=None, ts=TS, solver="dopri5", **options):
    y0 = start(next(f.parameters()).device) if y0 is None else y0
    with torch.set_grad_enabled("gradient" in options):
        return noderun.solve(f, y0, ts, **{"solver": solver, "compile": False, "rtol": 1e-5, "atol": 1e-6, **options})


def replayed(f, *args, solver="dopri5", **options):
    """The second solve, whose attempts decide on the device."""
    options |= {"solver": captured(METHODS[solver]), "compile": None}
    eager(f, *args, **options)
    found = eager(f, *args, **options)
    assert any(graphs is not None for graphs in GRAPHS[f].values())
    return found


def require_same(found, expected):
    assert (found.stats, found.status) == (expected.stats, expected.status)
    torch.testing.assert_close(found.ys, expected.ys, rtol=1e-11, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solver", EXPLICIT)
def test_the_device_takes_the_steps_of_the_host(solver, device):
    f = Net().to(device)
    ways = [{"dt": 0.1}, {"dt": [0.0, 0.2, 1.0, 2.0]}]
    if METHODS[solver].info.adaptive:
        loose = {"rtol": 1e-2} if METHODS[solver].order == 2 else {}
        ways += [loose, {"max_step": 0.1, "controller": "PID", **loose}, {"first_step": 0.5, "jump_ts": [0.7], **loose}]
    for options in ways:
        for ts in (TS, TS[::-1]):
            require_same(replayed(f, None, ts, solver=solver, **options), eager(f, None, ts, solver=solver, **options))


def carried_apart(f, expected, ts, rtol, atol, **options):
    """How far a last digit of y0 or of the tolerance carries eager solves apart; None if it changes their steps."""
    ulps = [{"y0": start() * (1 + 2**-52)}, {"rtol": rtol * (1 + 2**-50), "atol": atol * (1 + 2**-50)}]
    others = [eager(f, ts=ts, **{"rtol": rtol, "atol": atol, **options, **ulp}) for ulp in ulps]
    if any((other.stats, other.status) != (expected.stats, expected.status) for other in others):
        return None
    return max((other.ys - expected.ys).nan_to_num().abs().max() for other in others)


@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.1, 20),
    tolerance=st.floats(1e-10, 1e-1),
    norm=st.sampled_from(["rms", "max"]),
    solver=st.sampled_from(["bosh3", "dopri5", "dop853", "dopri8"]),
    end=st.sampled_from([0.5, -1.0, 3.0]),
)
def test_any_field_at_any_tolerance(seed, scale, tolerance, norm, solver, end):
    """Steps differ in the last digits of their sizes: Python rounds roots and powers of the error otherwise than torch.

    A field that drives solutions apart makes that grow as it makes any last digit grow, which eager solves show.
    """
    options = {"rtol": tolerance, "atol": tolerance, "norm": norm, "max_steps": 300, "throw": False, "solver": solver}
    f, ts = Net(seed, scale), [0.0, end / 3, end]
    found, expected = replayed(f, None, ts, **options), eager(f, None, ts, **options)
    apart = carried_apart(f, expected, ts, **options)
    assume(apart is not None)
    assert (found.stats, found.status) == (expected.stats, expected.status)
    assert torch.equal(found.ys.isnan(), expected.ys.isnan())
    assert (found.ys - expected.ys).nan_to_num().abs().max() <= 1e-11 + 100 * apart


def test_tolerances_by_component_nested_states_arguments_and_dense_output():
    class Pair(Net):
        def forward(self, t, y, shift):
            return {"u": super().forward(t, y["u"]) + shift, "v": -y["v"]}

    f, y0 = Pair(), {"u": start(), "v": torch.ones(2, dtype=F64)}
    tolerance = {"u": torch.full((4, 3), 1e-4, dtype=F64), "v": torch.full((2,), 1e-7, dtype=F64)}
    options = {"rtol": tolerance, "norm": "items", "dense": True}
    for shift in (0.0, 1.0):
        options["args"] = (torch.tensor(shift, dtype=F64),)
        found, expected = replayed(f, y0, TS, **options), eager(f, y0, TS, **options)
        assert found.stats == expected.stats
        torch.testing.assert_close(found.ys, expected.ys, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found.interpolate(1.1), expected.interpolate(1.1), rtol=1e-11, atol=1e-12)


class Exploding(nn.Module):
    """y' = y^2 from 1 goes to infinity at t = 1."""

    def forward(self, t, y):
        return y * y


class Cut(nn.Module):
    """NaN after t = 1."""

    def forward(self, t, y):
        return torch.where(t > 1, torch.nan, y)


@pytest.mark.parametrize(
    ("f", "options"),
    [
        (Exploding(), {"ts": [0.0, 2.0]}),
        (Exploding(), {"ts": [0.0, 0.9], "max_steps": 5}),
        (Exploding(), {"ts": [0.0, 2.0], "min_step": 0.1, "max_steps": 500}),
        (Cut(), {"ts": [0.0, 2.0], "max_steps": 30}),  # later, rounding decides which side of t = 1 a step is on
        (Cut(), {"ts": [0.0, 2.0], "min_step": 0.1}),
    ],
    ids=["a pole", "too many steps", "past the pole", "NaN ahead", "NaN at every step size"],
)
def test_a_solve_fails_where_and_as_on_the_host(f, options):
    y0 = torch.ones(1, dtype=F64)
    require_same(*(run(f, y0, solver="bosh3", **options, throw=False) for run in (replayed, eager)))


def gradients(run, f, **options):
    y0 = start(f.a.device).requires_grad_()
    sol = run(f, y0, **options)
    return torch.autograd.grad(sol.ys.square().sum(), (y0, *f.parameters())), sol


def again(f, *args, **options):
    """The second of two solves, each with its backward pass."""
    options |= {"solver": captured(METHODS[options["solver"]]), "compile": None}
    gradients(eager, f, **options)
    return eager(f, *args, **options)


def goes_back_by_graphs(f):
    kinds = [graphs for graphs in GRAPHS.get(f, {}).values() if graphs]
    return any(graphs.pulls or graphs.adjoint and graphs.solves for graphs in kinds)


PAIRS = [(solver, gradient) for solver in EXPLICIT for gradient in ("backprop", "checkpointed", "adjoint")]
PAIRS += [(solver, "interpolated") for solver in ("dopri5", "rk4")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("solver", "gradient"), PAIRS)
def test_gradients_are_those_of_eager_steps(solver, gradient, device):
    method, ends = METHODS[solver], {"ts": [0.0, 1.0]}
    inside = {"ts": [0.0, 0.3, 0.31, 1.0]}
    loose = {"rtol": 1e-3, "atol": 1e-3} if method.order < 4 else {}
    for options in [{"dt": 0.25, **inside}, {"dt": 0.25, **ends}, *method.info.adaptive * [{**inside, **loose}]]:
        f, options = Net().to(device), {"solver": solver, "gradient": gradient, **options}
        found, sol = gradients(again, f, **options)
        expected, plain = gradients(eager, f, **options)
        assert sol.stats.nfe_forward == plain.stats.nfe_forward
        if plain.stats.nfe_backward is not None:  # at most a call more for each output inside a step
            assert 0 <= sol.stats.nfe_backward - plain.stats.nfe_backward <= len(options["ts"]) - 2
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
        assert goes_back_by_graphs(f) == (gradient != "interpolated")


class Nested(Net):
    def forward(self, t, y, shift):
        return super().forward(t, y[0]) + shift, -y[1] * self.a[0]


@pytest.mark.parametrize("ts", [[0.0, 1.0], [1.0, 0.6, 0.0], {"dense": True}], ids=["ends", "backwards", "dense"])
def test_backprop_of_nested_states_is_pulled_back_by_graphs(ts):
    f, y0 = Nested(), (start(), torch.ones(3, dtype=F64))
    options = {"gradient": "backprop", "args": (torch.tensor(0.1, dtype=F64),)}
    options |= ts if isinstance(ts, dict) else {"ts": ts}

    def found(run):
        sol = run(f, y0, **options)
        ys = sol.interpolate(0.77) if "dense" in options else [y[-1] for y in sol.ys]
        return torch.autograd.grad(sum(y.square().sum() for y in ys), tuple(f.parameters()))

    expected = found(eager)
    torch.testing.assert_close(found(replayed), expected, rtol=1e-11, atol=1e-11)
    assert goes_back_by_graphs(f)


def test_backprop_by_graphs_is_differentiable_twice():
    f, options = Net(), {"gradient": "backprop", "ts": [0.0, 0.3, 1.0]}

    def found(run):
        y0 = start().requires_grad_()
        inputs = (y0, *f.parameters())
        first = torch.autograd.grad(run(f, y0, **options).ys[1:].pow(3).sum(), inputs, create_graph=True)
        return first, torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    expected = found(eager)
    for got, wanted in zip(found(replayed), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


class Hiding(Net):
    """With a parameter that it does not register."""

    def __init__(self):
        super().__init__()
        self.hidden = (torch.ones(3, dtype=F64, requires_grad=True),)

    def forward(self, t, y):
        return super().forward(t, y) * self.hidden[0]


def test_backprop_reaches_what_f_hides_or_params_leaves_out():
    f = Hiding()
    tensors = (*f.parameters(), *f.hidden)
    expected, *found = (
        torch.autograd.grad(run(f, gradient="backprop", **options).ys.sum(), tensors)
        for run, options in ((eager, {}), (replayed, {}), (replayed, {"params": [f.a]}))
    )
    for got in found:
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    assert not goes_back_by_graphs(f)


def test_the_host_waits_once_a_solve(waits):
    f = Net()
    for ts in ([0.0, 2.0], TS):
        replayed(f, None, ts, rtol=1e-8)
        waits.clear()
        sol = eager(f, None, ts, solver=captured(METHODS["dopri5"]), compile=None, rtol=1e-8)
        found = list(waits)
        assert sol.stats.accepted > 8 and found == ["tolist", "tolist"]  # of ts, which the host made, and the one wait


@pytest.mark.parametrize("gradient", ["backprop", "checkpointed"])
def test_a_solve_and_its_backward_pass_wait_once(gradient, waits):
    f, y0 = Net(), start().requires_grad_()
    options = {"solver": captured(METHODS["dopri5"]), "compile": None, "gradient": gradient, "ts": [0.0, 2.0]}
    for _ in range(3):  # eager, captured with a check of f, captured
        waits.clear()
        eager(f, y0, **options).ys[-1].sum().backward()
    assert waits == ["tolist", "tolist"]  # of ts, which the host made, and the one wait


def test_what_f_holds_may_change():
    f = Net()
    replayed(f)
    with torch.no_grad():
        f.a.mul_(0.5)  # read where it is
    require_same(replayed(f), eager(f))
    f.scale = 2.0  # another graph
    require_same(replayed(f), eager(f))
    f.b = nn.Parameter(f.b.detach() * 3)
    require_same(replayed(f), eager(f))
    f.a.data = f.a.data + 1
    require_same(replayed(f), eager(f))


def test_graphs_live_as_long_as_f():
    f = Net()
    gradients(again, f, solver="dopri5", gradient="adjoint")
    alive = weakref.ref(f)
    del f
    gc.collect()
    assert alive() is None


def test_an_f_that_cannot_be_captured_is_named_once_and_runs_eagerly(monkeypatch):
    def refuse(self):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Capture, "prepare", refuse)
    f = Net()
    with pytest.warns(RuntimeWarning, match="Net cannot be captured as a CUDA graph") as told:
        require_same(replayed(f), eager(f))
    assert len(told) == 1
    with warnings.catch_warnings(action="error"):
        require_same(replayed(f), eager(f))


class Noisy(Net):
    def forward(self, t, y):
        return super().forward(t, y) + 1e-3 * torch.rand_like(y)


class Counting(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, t, y):
        self.calls += 1
        return super().forward(t, y)


@pytest.mark.parametrize(("make", "why"), [(Noisy, "it draws random numbers"), (Counting, "it writes to its buffers")])
def test_an_f_that_does_more_than_compute_a_value_runs_eagerly(make, why):
    f = make()
    with pytest.warns(RuntimeWarning, match=why) as told:
        sol = replayed(f)
    assert len(told) == 1 and sol.status == "done"
    if make is Counting:
        before = f.calls.item()
        assert eager(f, solver=captured(METHODS["dopri5"]), compile=None).stats.nfe_forward == f.calls.item() - before


def test_a_gpu_replays_explicit_runge_kutta_methods_unless_told_otherwise():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    for name, method in METHODS.items():
        chosen = on_device(method, gpu)
        assert isinstance(chosen, CapturedRungeKutta) == (name in EXPLICIT) and on_device(method, cpu) is method
        if name in EXPLICIT:
            assert chosen.uncompiled is method and not chosen.compiles_f
            assert on_device(configure_method(method, compile=True), gpu).compiles_f
