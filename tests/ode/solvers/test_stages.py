"""The sums of stages: rounded once at the state's magnitude, whatever their number and the state's size."""

import pytest
import torch

from noderun.ode.solvers.stages import Stages, Table


@pytest.mark.parametrize("size", [1, 3, 64, 5000])
@pytest.mark.parametrize("recording", [False, True])
def test_a_sum_is_rounded_once_at_the_magnitude_of_the_state(size, recording):
    """Six shares of 0.4 units in the last place of y: added one by one to y, none of them would move it."""
    y = torch.ones(size)
    share = 0.4 * torch.finfo(y.dtype).eps
    with torch.set_grad_enabled(recording):
        stages = Stages(6, y, Table.of([[1.0] * 6], [], y))
        for i in range(6):
            stages.graph[i] = torch.full_like(y, share)
            stages.ks[i].fill_(share)
        stages.begin(y, 1.0)
        total = stages.sum(y, 0)
    assert torch.equal(total, (y.double() + 6 * share).float())
