"""The benchmark agrees before it times; and what a step costs beside f, counted without a clock."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from noderun.benchmarks import problems
from noderun.benchmarks.bench import Disagreement, run_case
from noderun.benchmarks.case import LIMIT
from noderun.benchmarks.cases import gradient_case, solve_case
from noderun.benchmarks.training import block_case
from noderun.engine import solve


def test_contenders_agree_and_are_timed_in_turns():
    rows = run_case(solve_case(problems.mlp(4, 1e-3)), rounds=2, seconds=1e-3)
    assert [row.contender for row in rows][:2] == [LIMIT, "noderun"] and rows[0].times_first == 1
    assert all(0 < row.low <= row.milliseconds <= row.high for row in rows)
    assert all(row.error < 0.1 for row in rows[1:])


def test_gradients_agree_with_a_tight_solve():
    case = gradient_case(problems.mlp(4, 1e-4), ("backprop", "checkpointed", "adjoint"))
    errors = case.errors()
    assert {"noderun backprop", "noderun checkpointed", "noderun adjoint"} <= set(errors)
    assert max(errors.values()) < case.allowed


def test_the_concatenating_block_of_the_peers_agrees():
    case = block_case(2, "backprop", "cpu")
    assert max(case.errors().values()) < case.allowed


def test_a_contender_that_computes_something_else_is_not_timed():
    case = solve_case(problems.mlp(4, 1e-3))
    wrong = replace(case, errors=lambda: {"noderun": 10.0})
    with pytest.raises(Disagreement, match="noderun on MLP"):
        run_case(wrong, rounds=1, seconds=1e-3)


class Dispatched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.ops = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


VIEWS = {"view", "t", "select", "slice", "unbind", "detach", "alias", "lift_fresh", "_unsafe_view", "split"}


def test_a_step_costs_one_sync_and_few_operations_beside_f():
    """dopri5 on an f of one operation: 6 stages of sum, f and copy, and the control of the step."""

    def counted(end):
        with torch.no_grad(), Dispatched() as dispatched:
            stats = solve(lambda t, y: torch.tanh(y), torch.ones(8), [0.0, end], max_step=0.5).stats
        return stats.accepted + stats.rejected, dispatched.ops

    (few, ops_few), (many, ops_many) = counted(1.0), counted(20.0)
    steps = many - few
    assert steps > 5
    per_step = {name: (ops_many[name] - ops_few[name]) / steps for name in ops_many}
    assert per_step["_local_scalar_dense"] == 1
    assert per_step["tanh"] == 6
    assert sum(n for name, n in per_step.items() if name not in VIEWS) - per_step["tanh"] <= 32


def test_a_round_of_samples_with_steps_of_their_own_costs_few_operations_and_no_sync_but_one():
    """The one sync is the ``tolist`` of a round's flags, which is not dispatched; all others are."""

    def counted(end):
        with torch.no_grad(), Dispatched() as dispatched:
            stats = solve(lambda t, y: torch.tanh(y), torch.ones(8, 3), [0.0, end], max_step=0.5, per_sample=True).stats
        return int(stats.accepted[0] + stats.rejected[0]), dispatched.ops

    (few, ops_few), (many, ops_many) = counted(1.0), counted(20.0)
    steps = many - few
    assert steps > 5
    per_step = {name: (ops_many[name] - ops_few[name]) / steps for name in ops_many}
    assert per_step.get("_local_scalar_dense", 0) == per_step.get("nonzero", 0) == 0
    assert per_step["tanh"] == 6
    others = {name: n for name, n in per_step.items() if name not in VIEWS}
    assert sum(others.values()) - per_step["tanh"] <= 84
