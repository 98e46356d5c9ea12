from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from noderun.training.meters import RunningMeans, quotient, solve_numbers
from noderun.training.progress import Progress


def test_means_weigh_and_survive_a_checkpoint():
    means = RunningMeans()
    means.add({"a": 1.0, "b": None}, weight=3)
    means.add({"a": torch.tensor(5.0), "c": 2}, weight=1)
    assert means.values() == {"a": 2.0, "c": 2.0}
    assert means.total("a") == 8.0
    again = RunningMeans.from_state(means.state_dict())
    for each in (means, again):
        each.add({"a": torch.tensor(0.1)})
    assert again.values() == means.values()


def test_a_step_is_noted_without_an_operation():
    """A small model's step is some fifty operations: what its bookkeeping asks of the device has to be none."""
    ops = Counter()

    class Dispatched(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            ops[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    progress, losses = Progress(), [torch.tensor(float(i)) for i in range(10)]
    with Dispatched():
        for loss in losses:
            progress.advance({"loss/train": loss, "nfe/forward": 26}, examples=64, seconds=0.5)
        assert set(ops) <= {"detach"}
        assert progress.take_window()["loss/train"] == 4.5
    assert ops["stack"] == 1 and progress.means.total("seconds") == 5.0


def test_a_rate_needs_a_clock_that_moves():
    assert quotient(6, 2.0) == 3.0 and quotient(6, 0.0) is None


def test_windows_add_up_to_the_epoch():
    parts, whole = Progress(), RunningMeans()
    for i in range(7):
        numbers = {"loss/train": torch.tensor(0.1 * i)}
        parts.advance(numbers, examples=2, seconds=1.0)
        whole.add({**numbers, "examples": 2, "seconds": 1.0})
        if i % 3 == 2:
            parts.take_window()
    parts.take_window()
    assert parts.means.values() == pytest.approx(whole.values())


def test_blocks_add_up_and_what_a_method_lacks_is_none():
    class Stats:
        nfe_forward, nfe_backward, accepted, rejected = 7, None, 2, 1

    assert solve_numbers([Stats, Stats]) == {
        "nfe/forward": 14,
        "nfe/backward": None,
        "steps/accepted": 4,
        "steps/rejected": 2,
    }
    assert set(solve_numbers([]).values()) == {None}
