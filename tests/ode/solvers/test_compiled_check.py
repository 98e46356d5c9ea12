"""A graph whose numbers are not the eager ones is found when it is first used, and given up with one warning.

The compiler is replaced: what it is handed runs as it is, or with a fault.
"""

import pytest
import torch
from test_compiled import Net, gradients, graph, solve, start
from torch import nn

from noderun.ode.solvers.compiled import check

MODES = [None, "checkpointed", "adjoint", "backprop"]


def scaled(x):
    return x * 1.001


def lost(x):
    return torch.zeros_like(x)


def undefined(x):
    return torch.full_like(x, torch.nan)


def made_with(monkeypatch, change=lambda x: x, wrong=lambda module, outputs: True):
    """Graphs run as they are handed over, their numbers changed where they are ``wrong``."""

    def code_of(module, inputs, options, table):
        def run(*xs):
            outputs = module(*xs)
            if not wrong(module, outputs):
                return outputs
            return [change(x) if torch.is_tensor(x) and x.is_floating_point() else x for x in outputs]

        return run

    monkeypatch.setattr("noderun.ode.solvers.compiled.graph.code_of", code_of)


def values(mode, **options):
    f = Net()
    options = {"ts": [0.0, 2.0], "rtol": 1e-3, "atol": 1e-3, **options}
    if mode is None:
        return f, [solve(f, **options).ys]
    return f, gradients(f, gradient=mode, **options)[0]


@pytest.mark.parametrize(
    ("mode", "ts"),
    [*((mode, [0.0, 2.0]) for mode in MODES), ("checkpointed", [0.0, 0.7, 1.0, 2.0])],
)
def test_what_is_right_is_used_without_a_word(mode, ts, monkeypatch):
    made_with(monkeypatch)
    f, found = values(mode, ts=ts, compile=True)
    torch.testing.assert_close(found, values(mode, ts=ts)[1], rtol=1e-9, atol=1e-10)
    assert graph(f, start()).compilations and not graph(f, start()).failed


@pytest.mark.parametrize(("mode", "change"), [*((mode, scaled) for mode in MODES), (None, lost), (None, undefined)])
def test_what_is_wrong_is_found_and_told_once(mode, change, monkeypatch):
    made_with(monkeypatch, change)
    with pytest.warns(UserWarning, match="differ from the eager|other step sizes|loop ended") as told:
        _, found = values(mode, compile=True)
    assert len(told) == 1 + (mode == "adjoint")  # whose field has a graph of its own
    assert all(map(torch.equal, found, values(mode)[1]))


@pytest.mark.parametrize("mode", ["checkpointed", None])
def test_a_wrong_loop_leaves_the_steps_one_by_one(mode, monkeypatch):
    def has_loop(module, outputs):
        return any("while_loop" in str(node.target) for node in module.graph.nodes)

    made_with(monkeypatch, scaled, has_loop)
    with pytest.warns(UserWarning, match="makes steps of this f one by one: the compiler's") as told:
        f, found = values(mode, compile=True)
    assert len(told) == 1 and not graph(f, start()).failed
    torch.testing.assert_close(found, values(mode)[1], rtol=1e-9, atol=1e-10)


def test_steps_go_one_by_one_where_torch_has_no_loop(monkeypatch):
    made_with(monkeypatch)
    monkeypatch.delattr(torch, "while_loop")
    with pytest.warns(UserWarning, match="makes steps of this f one by one") as told:
        _, found = values(None, compile=True)
    assert len(told) == 1
    torch.testing.assert_close(found, values(None)[1], rtol=1e-9, atol=1e-10)


def test_a_graph_is_compared_once_and_its_calls_of_f_are_not_counted(monkeypatch):
    class Called(Net):
        def forward(self, t, y):
            if not torch.compiler.is_compiling():
                calls.append(t)
            return super().forward(t, y)

    made_with(monkeypatch)
    calls, f = [], Called()
    first = solve(f, ts=[0.0, 2.0], compile=True)
    assert len(calls) == 2 + 6 * check.FEW  # the slope at the start, the choice of the first step size, two steps
    again = solve(f, ts=[0.0, 2.0], compile=True)
    assert len(calls) == 2 + 6 * check.FEW and first.stats == again.stats == solve(Net(), ts=[0.0, 2.0]).stats


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_round_off_of_the_numbers_that_f_computes_with_is_no_fault(dtype, monkeypatch):
    class Coarse(nn.Module):
        """A net of another precision than the state; the compiler rounds its results elsewhere."""

        def __init__(self):
            super().__init__()
            self.net = Net(dtype)

        def forward(self, t, y):
            slope = self.net(t.to(dtype), y.to(dtype))
            return (slope * (1 + (2 if torch.compiler.is_compiling() else 0) * torch.finfo(dtype).eps)).to(y)

    made_with(monkeypatch)
    f = Coarse()
    solve(f, ts=[0.0, 1.0], rtol=1e-3, atol=1e-3, compile=True)
    assert graph(f, start()).compilations == 1 and not graph(f, start()).failed
