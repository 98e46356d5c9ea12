"""Bytes held between the forward and the backward pass, over live storages: autograd's and the methods' own."""

import pytest
import torch
from torch import nn

import noderun
from noderun.training.memory import StorageLedger

SIZE = 4000
STATE = 4 * SIZE


class Decay(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.5))

    def forward(self, t, y):
        return -self.rate * torch.sin(y)


def held(gradient, solver, steps, **options):
    y0, net = torch.linspace(0, 1, SIZE, requires_grad=True), Decay()
    ts = torch.tensor([0.0, 1.0])
    with StorageLedger() as ledger:
        sol = noderun.solve(net, y0, ts, solver=solver, gradient=gradient, dt=1 / steps, **options)
    assert sol.stats.accepted == steps
    return ledger.held_bytes(y0, ts, sol.ys, *net.parameters())


@pytest.mark.parametrize(("gradient", "solver"), [("adjoint", "midpoint"), ("reversible", "reversible_heun")])
def test_constant_memory(gradient, solver):
    few, many = (held(gradient, solver, steps) for steps in (20, 2000))
    assert abs(many - few) < 0.01 * STATE


@pytest.mark.parametrize("gradient", ["checkpointed", "symplectic"])
def test_checkpoints_hold_a_state_a_step(gradient):
    few, many = (held(gradient, "midpoint", steps) for steps in (20, 2000))
    assert (many - few) / 1980 == pytest.approx(STATE, rel=0.01)


def test_a_number_of_checkpoints_bounds_the_memory():
    few, many = (held("checkpointed", "midpoint", steps, gradient_options={"checkpoints": 5}) for steps in (20, 2000))
    assert abs(many - few) < 0.01 * STATE


def test_a_multistep_history_is_held_once():
    per_step = (held("checkpointed", "adams_bashforth", 220) - held("checkpointed", "adams_bashforth", 20)) / 200
    assert per_step == pytest.approx(2 * STATE, rel=0.05)  # y and one value of f, however long the history is


def test_backprop_holds_every_graph():
    assert held("backprop", "midpoint", 40) - held("backprop", "midpoint", 20) > 20 * 4 * STATE
