"""Blocks over any state and any output times, and what is measured of their solves."""

import math

import pytest
import torch
from torch import nn

from noderun.data import Batch
from noderun.models import ODEBlock, SolveBlock
from noderun.objectives import Objective
from noderun.ode.configured import ConfiguredSolve
from noderun.regularizers import REGULARIZERS
from noderun.training.block_pass import gradient_error, numerical_error, passes, reconstruction_error
from noderun.training.diagnostics import MEASURES, diagnose
from noderun.training.setup import Setup

TIMES = [0.0, 0.3, 1.0]
TIGHT = ConfiguredSolve(rtol=1e-7, atol=1e-7, gradient="checkpointed")
EULER = ConfiguredSolve(solver="euler", dt=0.1, gradient="backprop")


class Pair(nn.Module):
    """y' = a y and z' = y, as a tuple or a dict; a tensor is y alone."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(-0.7))

    def forward(self, t, state):
        if isinstance(state, dict):
            return {"z": state["y"].sum(1), "y": self.a * state["y"]}  # not in the state's order
        if isinstance(state, tuple):
            return self.a * state[0], state[0].sum(1)
        return self.a * state


def starts(nesting):
    y, z = torch.ones(4, 2), torch.zeros(4)
    return {"tensor": y, "tuple": (y, z), "dict": {"y": y, "z": z}}[nesting]


def y_of(state):
    return state["y"] if isinstance(state, dict) else state[0] if isinstance(state, tuple) else state


class Outputs(Objective):
    """The sum of y over all times."""

    def __call__(self, model, batch):
        return {"loss": y_of(model(batch.inputs)).sum()}


class Net(nn.Module):
    def __init__(self, nesting, ts, solve):
        super().__init__()
        self.block, self.nesting, self.ts = SolveBlock(Pair(), solve), nesting, ts

    def forward(self, x):
        y, z = x, x.new_zeros(len(x))
        start = {"tensor": y, "tuple": (y, z), "dict": {"y": y, "z": z}}[self.nesting]
        return self.block(start, self.ts).ys


def setup_of(net):
    return Setup(net, [net.block], Outputs(), None, None, None, 1, torch.device("cpu"))


NESTINGS = ["tensor", "tuple", "dict"]


@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_solution_at_every_time(nesting):
    block = SolveBlock(Pair(), TIGHT)
    ys = block(starts(nesting), TIMES).ys
    y = torch.exp(-0.7 * torch.tensor(TIMES))
    torch.testing.assert_close(y_of(ys), y[:, None, None].expand(3, 4, 2))
    if nesting != "tensor":
        z = ys["z"] if nesting == "dict" else ys[1]
        torch.testing.assert_close(z, (2 * (1 - y) / 0.7)[:, None].expand(3, 4))
    assert block.stats.nfe_forward > 0 and block.penalty is None


@pytest.mark.parametrize("nesting", NESTINGS)
def test_the_block_of_a_classifier_is_its_end(nesting):
    end = ODEBlock(Pair(), TIGHT, t1=0.3)(starts(nesting))
    torch.testing.assert_close(y_of(end), y_of(SolveBlock(Pair(), TIGHT)(starts(nesting), [0.0, 0.3]).ys)[-1])


@pytest.mark.parametrize("ts", [TIMES, torch.tensor(TIMES), [1.0, 0.0]])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_measurements_of_any_solve(nesting, ts):
    """y = e^(a t): Euler's errors are known, and those of a tight solve vanish."""
    exact, coarse = Net(nesting, ts, TIGHT), Net(nesting, ts, EULER)
    (done,) = passes(setup_of(exact), Batch(torch.ones(4, 2)))
    assert max(numerical_error(done), reconstruction_error(done), gradient_error(done)) < 1e-5
    (done,) = passes(setup_of(coarse), Batch(torch.ones(4, 2)))
    steps = [round(abs(float(t) - float(ts[0])) / 0.1) for t in ts]
    h = 0.1 if ts[-1] > ts[0] else -0.1
    # d/da of sum_t (1 + a h)^n, beside that of sum_t e^(a t)
    own = sum(n * h * (1 - 0.7 * h) ** (n - 1) for n in steps)
    true = sum(float(t - ts[0]) * torch.tensor(-0.7 * float(t - ts[0])).exp().item() for t in ts)
    assert gradient_error(done) == pytest.approx(abs(1 - own / true), rel=1e-3)
    row = diagnose(setup_of(coarse), Batch(torch.ones(4, 2)))
    assert set(row) == set(MEASURES) and None not in row.values()


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_changes_no_output_at_any_time(name):
    torch.manual_seed(0)
    block = SolveBlock(Pair(), ConfiguredSolve(solver="tsit5", dt=0.1, gradient="backprop"))
    y0 = torch.randn(4, 2)
    plain = block(y0, TIMES)
    block.regularizer = REGULARIZERS[name]()
    penalized = block(y0, TIMES)
    assert penalized.ys.shape == (3, 4, 2) and len(penalized.ts) == 3
    torch.testing.assert_close(penalized.ys, plain.ys, rtol=1e-4, atol=1e-6)
    assert block.penalty.dim() == 0 and torch.isfinite(block.penalty)
    block.penalty.backward()
    assert block.dynamics.a.grad is not None
    block.eval()(y0, TIMES)
    assert block.penalty is None


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_is_positive_whichever_way_time_runs(name):
    torch.manual_seed(0)
    block = SolveBlock(Pair(), ConfiguredSolve(solver="tsit5", dt=0.01, gradient="backprop"))
    block.regularizer = REGULARIZERS[name]()
    y0, found = torch.randn(4, 2), []
    for start, ts in ((y0, [0.0, 1.0]), (y0 * math.exp(-0.7), [1.0, 0.0])):  # the same curves
        torch.manual_seed(1)
        block(start, ts)
        found.append(block.penalty.item())
    assert min(found) >= 0 and max(found) > 0
    if name not in ("error", "stiffness"):  # they look at another random time
        assert found[1] == pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("nesting", ["tuple", "dict"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_of_one_tensor_refuses_a_nested_state(name, nesting):
    block = SolveBlock(Pair(), TIGHT)
    block.regularizer = REGULARIZERS[name]()
    with pytest.raises(TypeError, match=f"{type(block.regularizer).__name__} takes a state that is one tensor"):
        block(starts(nesting), TIMES)


@pytest.mark.parametrize("nesting", ["tuple", "dict"])
def test_a_regularizer_of_its_own_may_take_a_nested_state(nesting):
    """int y^2 dt of y = e^(-0.7 t) is (1 - e^(-1.4)) / 1.4."""

    def squares(y0):
        def integrand(f, t, state):
            return f(t, state), y_of(state).square().mean(1)

        return integrand

    block = SolveBlock(Pair(), TIGHT)
    block.regularizer = squares
    ys = block(starts(nesting), TIMES).ys
    assert type(ys) is type(starts(nesting))
    torch.testing.assert_close(block.penalty, (1 - torch.exp(torch.tensor(-1.4))) / 1.4)
    torch.testing.assert_close(y_of(ys)[-1], torch.full((4, 2), torch.exp(torch.tensor(-0.7)).item()))


def test_a_solve_whose_choices_cannot_be_read_is_said(caplog):
    net = Net("tensor", TIMES, lambda f, y0, ts, **overrides: TIGHT(f, y0, ts, **overrides))
    row = diagnose(setup_of(net), Batch(torch.ones(4, 2)))
    assert row["solve/numerical_error"] is None and row["solve/reconstruction_error"] is not None
    assert "make it a ConfiguredSolve" in caplog.text
