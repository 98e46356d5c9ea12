"""What one more step costs, counted without a clock: calls of f, its vjps, other operations, waits for the device.

The numbers are what was reached: whoever lowers one writes the lower one here.
"""

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from noderun.ode.engine import solve
from noderun.ode.gradients import GRADIENTS

VIEWS = set("view t transpose expand squeeze unsqueeze select slice split unbind detach alias lift_fresh".split())
VIEWS |= {"_unsafe_view", "as_strided"}
SYNC = "_local_scalar_dense"


class Dispatched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.ops = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


class Field(nn.Module):
    """One tanh, one product, one parameter."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(8))

    def forward(self, t, y):
        return torch.tanh(self.w * y)


@dataclass(frozen=True)
class Cost:
    """Of one pass over one step: calls of f, vjps, all operations but views, and of these the waits."""

    calls: int
    vjps: int
    operations: int
    syncs: int = 0

    def exceeded(self, ops):
        """What of it costs more, and how much."""
        beside = sum(n for op, n in ops.items() if op not in VIEWS)
        found = {"calls": ops["tanh"], "vjps": ops["tanh_backward"], "operations": beside, "syncs": ops[SYNC]}
        return {name: n for name, n in found.items() if n > getattr(self, name) + 0.01}


FORWARD = Cost(calls=6, vjps=0, operations=36, syncs=1)
COSTS = {  # gradient -> its forward and its backward pass
    "backprop": (FORWARD, Cost(0, 6, 51)),
    "checkpointed": (FORWARD, Cost(6, 6, 81)),
    "symplectic": (FORWARD, Cost(11, 6, 79)),
    # with the error of the integral for theta, whose number waits in a ``tolist`` of its own
    "adjoint": (FORWARD, Cost(6, 6, 73, syncs=1)),
    "interpolated": (FORWARD, Cost(7, 7, 102, syncs=8)),  # each evaluation looks up the step it is in
    "reversible": (Cost(1, 0, 9), Cost(2, 1, 28)),
}


def passes(gradient, end):
    """Steps taken, and the operations of the forward and of the backward pass."""
    how = {"solver": "reversible_heun", "dt": 0.5} if gradient == "reversible" else {"max_step": 0.5}
    f, y0 = Field(), torch.ones(8, requires_grad=True)
    with Dispatched() as dispatched:
        solution = solve(f, y0, [0.0, end], gradient=gradient, **how)
        forward = Counter(dispatched.ops)
        solution.ys[-1].sum().backward()
    return solution.stats.accepted + solution.stats.rejected, forward, dispatched.ops - forward


def per_step(gradient):
    few, *first = passes(gradient, 1.0)
    many, *then = passes(gradient, 20.0)
    assert many - few > 30
    return [
        Counter({op: (after[op] - before[op]) / (many - few) for op in after})
        for before, after in zip(first, then, strict=True)
    ]


@pytest.mark.parametrize("gradient", COSTS)
def test_a_step_costs_no_more_than_it_did(gradient):
    for cost, ops in zip(COSTS[gradient], per_step(gradient), strict=True):
        assert not cost.exceeded(ops), ops


def test_every_gradient_has_its_cost():
    assert COSTS.keys() == GRADIENTS.keys() - {"forward"}  # whose cost is that of the number of parameters


def test_without_gradients_nothing_is_added():
    def ops(end):
        with torch.no_grad(), Dispatched() as dispatched:
            stats = solve(Field(), torch.ones(8), [0.0, end], max_step=0.5).stats
        return stats.accepted + stats.rejected, dispatched.ops

    (few, before), (many, after) = ops(1.0), ops(20.0)
    assert not FORWARD.exceeded(Counter({op: (after[op] - before[op]) / (many - few) for op in after}))


def test_a_round_of_samples_with_steps_of_their_own_waits_once():
    """The one wait is the ``tolist`` of a round's flags, which is not dispatched; all others are."""

    def ops(end):
        with torch.no_grad(), Dispatched() as dispatched:
            stats = solve(Field(), torch.ones(8, 8), [0.0, end], max_step=0.5, per_sample=True).stats
        return int(stats.accepted[0] + stats.rejected[0]), dispatched.ops

    (few, before), (many, after) = ops(1.0), ops(20.0)
    assert many - few > 5
    found = Counter({op: (after[op] - before[op]) / (many - few) for op in after})
    assert not Cost(calls=6, vjps=0, operations=96, syncs=0).exceeded(found)
    assert found["nonzero"] == 0
