"""Blocks whose solves a GPU replays: the second and later training passes, here uncaptured, beside eager ones."""

import pytest
import torch
from torch import nn

from noderun.models import ODEBlock
from noderun.models.continuous import FlowBlock
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.solvers import METHODS
from noderun.ode.solvers.captured.runge_kutta import GRAPHS, captured
from noderun.regularizers import REGULARIZERS, Local

INTEGRALS = [name for name, make in REGULARIZERS.items() if not isinstance(make(), Local)]
ESTIMATES = ("exact", "hutchinson")
PASSES = 3  # eager, captured, replayed


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()

    def forward(self, t, y):
        return self.net(y) * (1 + t)


def image_block(solve, estimate):
    return ODEBlock(Field(), solve)


def flow_block(solve, estimate):
    return FlowBlock(Field(), solve, divergence=estimate)


def losses(make, estimate, regularizer, **how):
    """The loss, its gradient and the statistics of each pass, on other points every time; and the fields replayed."""
    torch.manual_seed(0)
    block = make(ConfiguredSolve(rtol=1e-3, atol=1e-3, **how), estimate).train()
    block.regularizer = regularizer and REGULARIZERS[regularizer]()
    found = []
    for _ in range(PASSES):
        y = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        out = block(y)
        parts = out if isinstance(out, tuple) else (out,)
        loss = sum(part.square().sum() for part in parts) + (0 if block.penalty is None else block.penalty)
        grads = torch.autograd.grad(loss, [y, *block.parameters()], allow_unused=True)
        found.append([loss.detach(), *(g for g in grads if g is not None)])
        counts = (block.stats.nfe_forward, block.stats.nfe_backward, block.stats.accepted, block.stats.rejected)
        found[-1].append(torch.tensor(counts))
    fields = [f for _, f in block.quadratures] or [block.dynamics]
    assert len(fields) == 1
    return found, [graphs for graphs in GRAPHS.get(fields[0], {}).values() if graphs is not None]


CASES = [(image_block, "", name, "checkpointed") for name in INTEGRALS]
CASES += [(flow_block, estimate, None, gradient) for estimate in ESTIMATES for gradient in ("checkpointed", "adjoint")]
CASES += [(flow_block, "hutchinson", "jacobian", "checkpointed"), (flow_block, "exact", "kinetic", "adjoint")]


@pytest.mark.parametrize(("make", "estimate", "regularizer", "gradient"), CASES)
def test_regularized_blocks_and_flows_are_replayed_to_the_same_numbers(make, estimate, regularizer, gradient):
    found, graphs = losses(make, estimate, regularizer, solver=captured(METHODS["dopri5"]), gradient=gradient)
    expected, _ = losses(make, estimate, regularizer, solver="dopri5", compile=False, gradient=gradient)
    assert len(graphs) == (2 if gradient == "adjoint" else 1) and not any(each.failed for each in graphs)
    assert all(each.solves or each.pulls for each in graphs)
    for ours, eager in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-11, atol=1e-11)
