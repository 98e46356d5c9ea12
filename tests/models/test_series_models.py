"""Models of series: causality, padding, times of each sample's own."""

import pytest
import torch

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.targets import Classes
from noderun.models.recurrent import RNN
from noderun.models.timeline import timeline

RECURRENT = {"rnn": RNN}


@pytest.fixture
def series():
    generator = torch.Generator().manual_seed(0)
    times = torch.rand(3, 6, generator=generator).sort(1).values
    mask = torch.rand(3, 6, 2, generator=generator) < 0.7
    mask[:, 0] = True
    return torch.randn(3, 6, 2, generator=generator), times, mask


def test_a_timeline_puts_questions_before_observations_of_their_time():
    inputs, times = torch.tensor([[[5.0], [6.0]]]), torch.tensor([[1.0, 2.0]])
    line = timeline(inputs, times, None, torch.tensor([[2.0, 0.5]]))
    assert line.times.tolist() == [[0.5, 1.0, 2.0, 2.0]] and line.asked.tolist() == [[2, 0]]
    assert line.values.flatten().tolist() == [0, 5, 0, 6] and line.mask.flatten().tolist() == [0, 1, 0, 1]
    assert line.filled().flatten().tolist() == [0, 5, 5, 6]
    assert line.since_observed().flatten().tolist() == [0, 0.5, 1, 1]


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_nets_see_the_past_alone_and_no_padding(name, series):
    torch.manual_seed(0)
    inputs, times, mask = series
    model = RECURRENT[name]((6, 2), 4)
    asked = times[:, 2:4]
    answers = model(inputs, times, mask, asked)
    assert answers.shape == (3, 2, 4)
    later = torch.where((times >= asked[:, 1:]).unsqueeze(-1), torch.nan, inputs)  # and NaN where nothing may look
    hidden = mask & (times < asked[:, 1:]).unsqueeze(-1)
    torch.testing.assert_close(model(later, times, hidden, asked), answers)
    longer = [torch.cat([part, part[:, -1:]], dim=1) for part in (inputs, times, mask)]
    longer[2][:, -1] = False
    torch.testing.assert_close(model(*longer, asked), answers)
    torch.testing.assert_close(model(*longer), model(inputs, times, mask))


def test_a_recurrent_net_sees_the_path_the_same_in_any_units_of_its_increments():
    """A walk of 10 and one of 1000 points from 0 to 1 have steps of other sizes; the GRU is given both at size 1."""
    generator = torch.Generator().manual_seed(0)
    for points in (10, 1000):
        walks = torch.randn(64, points, 2, generator=generator).cumsum(1) / points**0.5
        batch = Batch(walks, torch.arange(64) % 2, times=torch.linspace(0, 1, points).expand(64, -1))
        model = RNN((points, 2), 2)
        model.prepare_for(Dataset("walks", (points, 2), Classes(2), batch, batch))
        given = []
        model.gru.register_forward_pre_hook(lambda module, args, given=given: given.append(args[0]))
        model(batch.inputs, batch.times)
        steps = given[0][:, 1:, 4:]
        torch.testing.assert_close(steps.square().mean((0, 1)).sqrt(), torch.ones(3))
