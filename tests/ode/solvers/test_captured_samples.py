"""Rounds of samples with steps of their own, made on the device: those of the host, and one wait for all of them."""

import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from sample_problems import starts, tensor
from torch import nn

import noderun.ode.engine
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.captured.runge_kutta import GRAPHS, captured
from noderun.ode.solvers.per_sample.record import Rounds
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta

EXPLICIT = [name for name, method in METHODS.items() if isinstance(method, ExplicitRungeKutta)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
F64 = torch.float64


class VanDerPol(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(2.0, dtype=F64))

    def forward(self, t, y):
        x, v = y[..., :1], y[..., 1:]
        return torch.cat([v, self.mu * (1 - x * x) * v - x], dim=-1)


def eager(f, ts, y0=None, **options):
    y0 = starts(3).to(next(f.parameters(), tensor()).device) if y0 is None else y0
    return noderun.solve(f, y0, ts, per_sample=True, **{"rtol": 1e-5, "atol": 1e-6, **options})


@contextmanager
def on_a_gpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noderun.ode.engine, "on_device", lambda method, device: captured(method))
        yield


def replayed(f, ts, *args, **options):
    """The second solve with f, as on a GPU."""
    with on_a_gpu():
        eager(f, ts, *args, **options)
        found = eager(f, ts, *args, **options)
    assert any(made is not None and made.kinds for made in GRAPHS[f].values())
    return found


def require_same(found, expected):
    assert found.status == expected.status
    for name in ("nfe_forward", "accepted", "rejected", "status", "t"):
        torch.testing.assert_close(getattr(found.stats, name), getattr(expected.stats, name), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.ys, expected.ys, rtol=1e-11, atol=1e-11, equal_nan=True)


OWN = tensor([0.0, 0.7, 0.7, 1.0], [1.5, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25])  # back, and of no length


def times(solver, inside, dt=None):
    """The times, or the first and the last of them where outputs inside steps need stages of their own."""
    tableau = METHODS[solver].tableau
    lacking = tableau.dense_a or (dt and tableau.fsal)
    return inside[..., :: inside.shape[-1] - 1] if lacking else inside


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solver", EXPLICIT)
def test_the_device_takes_the_steps_of_the_host(solver, device):
    f, line = VanDerPol().to(device), torch.tensor([0.0, 0.3, 0.31, 1.0], dtype=F64)
    ways = [(OWN, {"dt": 0.1}), (line, {"dt": [0.0, 0.2, 0.7, 1.0]})]
    if METHODS[solver].info.adaptive:
        loose = {"rtol": 1e-3, "atol": 1e-3} if METHODS[solver].order == 2 else {}
        ways += [(OWN, loose), (line, {"first_step": 0.5, "max_step": 0.6, **loose})]
        ways += [(line[::3], {"controller": "PID", "norm": "max", **loose})]
    for ts, options in ways:
        ts, options = times(solver, ts, options.get("dt")), {"solver": solver, **options}
        require_same(replayed(f, ts, **options), eager(f, ts, **options))


class Cut(nn.Module):
    """Each sample's own constant decides when it becomes NaN."""

    def forward(self, t, y, cut):
        return torch.where(t > cut, torch.nan, -y)


@pytest.mark.parametrize(
    "options", [{"max_steps": 7}, {"min_step": 0.3}, {"dt": 0.25, "solver": "rk4"}], ids=["few", "least", "fixed"]
)
def test_samples_fail_where_and_as_on_the_host(options):
    options |= {"args": (tensor([1.2], [9.0], [0.2]),), "throw": False, "rtol": 1e-3}
    found, expected = (run(Cut(), [0.0, 2.0], **options) for run in (replayed, eager))
    require_same(found, expected)
    assert len(set(found.status)) == 2


GRADIENTS = ["backprop", "checkpointed", "adjoint"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(("solver", "ts"), [("dopri5", [0.0, 0.3, 0.31, 1.0]), ("rk4", OWN), ("dopri8", OWN[:, ::3])])
def test_gradients_are_those_of_eager_rounds(solver, ts, gradient, device):
    f, y0 = VanDerPol().to(device), starts(3).to(device).requires_grad_()
    options = {"solver": solver, "gradient": gradient, "compact": False, **({"dt": 0.1} if solver == "rk4" else {})}

    def found(run):
        sol = run(f, ts, y0, **options)
        return sol, torch.autograd.grad(sol.ys.square().sum(), (y0, f.mu))

    (sol, got), (plain, wanted) = found(replayed), found(eager)
    require_same(sol, plain)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    assert gradient != "checkpointed" or any(made and made.pulls for made in GRAPHS[f].values())
    assert gradient == "backprop" or torch.equal(sol.stats.nfe_backward, plain.stats.nfe_backward)


class Pair(nn.Module):
    def forward(self, t, y, rate):
        return {"u": rate * y["u"], "v": -y["v"] * t}


def test_nested_states_arguments_and_another_norm():
    f, y0 = Pair(), {"u": starts(3), "v": tensor([1.0], [2.0], [3.0])}
    for rate in (tensor([1.0], [-1.0], [0.2]), tensor([0.5], [-2.0], [2.0])):
        options = {"args": (rate,), "norm": "max", "solver": "tsit5"}
        found, expected = replayed(f, [0.0, 0.4, 1.0], y0, **options), eager(f, [0.0, 0.4, 1.0], y0, **options)
        for name in y0:
            torch.testing.assert_close(found.ys[name], expected.ys[name], rtol=1e-11, atol=1e-11)
        assert torch.equal(found.stats.nfe_forward, expected.stats.nfe_forward)


def test_a_record_without_room_for_all_rounds_is_read_in_parts(monkeypatch):
    monkeypatch.setattr("noderun.ode.solvers.graphed.MOST_ATTEMPTS", 5)
    f, ts = VanDerPol(), [0.0, 0.3, 3.0]
    require_same(replayed(f, ts), eager(f, ts))


def test_the_host_waits_once_for_all_rounds(waits, monkeypatch):
    looks, look = [], Rounds.of
    monkeypatch.setattr(Rounds, "of", lambda *record: looks.append(len(record[2])) or look(*record))
    found = []
    for end in (1.0, 4.0):
        f, y0 = VanDerPol(), starts(3).requires_grad_()
        for _ in range(3):  # eager, captured, replayed
            looks.clear()
            waits.clear()
            with on_a_gpu():
                sol = eager(f, [0.0, end], y0, gradient="checkpointed")
            sol.ys[-1].sum().backward()
        assert looks == [int((sol.stats.accepted + sol.stats.rejected).max())]
        found.append(list(waits))
    # Of the times, the record, the status and the check of f before the way back, however many rounds there were.
    assert found[0] == found[1]


def test_what_is_replayed_lives_as_long_as_f():
    f = VanDerPol()
    replayed(f, [0.0, 1.0], gradient="checkpointed").ys.sum().backward()
    alive = weakref.ref(f)
    del f
    gc.collect()
    assert alive() is None
