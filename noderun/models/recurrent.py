"""Recurrent nets of irregular series, which read observations in order and answer from their hidden state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.data.dataset import Dataset
from noderun.models.block import MakeDynamics
from noderun.models.gap import GapBlock
from noderun.models.timeline import Timeline, timeline
from noderun.ode.configured import ConfiguredSolve


class Recurrent(nn.Module):
    """inputs [B, T, D], times [B, T], mask [B, T(, D)] to [B, outputs], or to [B, S, outputs] at target_times [B, S].

    A subclass defines ``states(line) -> [B, L, hidden]``. An answer at a time uses what was observed before it.
    """

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.head = nn.Linear(hidden, outputs)

    def states(self, line: Timeline) -> Tensor:
        raise NotImplementedError

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        line = timeline(inputs, times, mask, target_times)
        states = self.states(line)
        found = states.gather(1, line.asked.unsqueeze(-1).expand(-1, -1, self.hidden))
        answers: Tensor = self.head(found)
        return answers if target_times is not None else answers[:, 0]


class RNN(Recurrent):
    """A GRU whose inputs are the path, its increments and the gaps in time, and what was observed.

    Increments and gaps are in units of their root mean square over training: the values of a series are of size 1, its
    increments may be of size 0.1, and a GRU learns little from what is small beside the rest of its input. At the start
    it remembers over times up to the length of a series.
    """

    unit: Tensor

    def __init__(self, shape: tuple[int, ...], outputs: int, *, hidden: int = 64) -> None:
        super().__init__(hidden, outputs)
        self.gru = nn.GRU(3 * shape[-1] + 1, hidden, batch_first=True)
        initialize(self.gru, length=shape[0])
        self.register_buffer("unit", torch.ones(shape[-1] + 1))

    @torch.no_grad()
    def prepare_for(self, dataset: Dataset) -> None:
        """Measure the increments and gaps that are not zero, as those of padding are."""
        rows = dataset.prepare(dataset.train.rows(slice(0, 1000)), None)
        assert rows.times is not None
        steps = increments_and_gaps(timeline(rows.inputs, rows.times, rows.mask, rows.target_times))
        count = steps.count_nonzero((0, 1)).clamp(min=1)
        size = (steps.square().sum((0, 1)) / count).sqrt()
        self.unit.copy_(torch.where(size > 0, size, 1.0))

    def states(self, line: Timeline) -> Tensor:
        features = torch.cat([line.filled(), line.mask, increments_and_gaps(line) / self.unit], dim=-1)
        states: Tensor = self.gru(features)[0]
        return states


@torch.no_grad()
def initialize(gru: nn.GRU, length: int) -> None:
    """Input weights by Glorot and Bengio (2010), orthogonal recurrent ones (Saxe et al. 2014), and biases of the update
    gates of log(U(1, length - 1)), so that a unit forgets within as many steps (Tallec and Ollivier 2018)."""
    of_input, recurrent, bias, recurrent_bias = gru.parameters()
    reset_update_new = range(0, 3 * gru.hidden_size, gru.hidden_size)
    for gate in (slice(first, first + gru.hidden_size) for first in reset_update_new):
        nn.init.xavier_uniform_(of_input[gate])
        nn.init.orthogonal_(recurrent[gate])
    update = slice(gru.hidden_size, 2 * gru.hidden_size)
    bias[update] = torch.empty(gru.hidden_size).uniform_(1, max(length - 1, 1)).log()
    recurrent_bias[update] = 0.0


def increments_and_gaps(line: Timeline) -> Tensor:
    """[B, L, D + 1]: what each channel and the time moved by since the moment before; 0 at the first."""
    path = line.filled()
    return torch.cat([torch.diff(path, dim=1, prepend=path[:, :1]), line.gaps.unsqueeze(-1)], dim=-1)


class GRUD(Recurrent):
    """GRU-D (Che et al. 2018): inputs that are missing, and the hidden state, decay with time; equations 3 to 13.

    A missing input decays from its last value to the channel's mean, here a parameter that starts at 0, the mean of
    standardized channels.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, *, hidden: int = 64) -> None:
        super().__init__(hidden, outputs)
        channels = shape[-1]
        self.mean = nn.Parameter(torch.zeros(channels))
        self.input_decay = nn.Parameter(torch.zeros(2, channels))  # the weight, diagonal, and the bias
        self.hidden_decay = nn.Linear(channels, hidden)
        self.cell = nn.GRUCell(2 * channels, hidden)

    def states(self, line: Timeline) -> Tensor:
        since = line.since_observed()
        weight, bias = self.input_decay
        gamma_x = torch.exp(-torch.relu(weight * since + bias))  # equation 3
        gamma_h = torch.exp(-torch.relu(self.hidden_decay(since)))
        known = gamma_x * line.filled() + (1 - gamma_x) * self.mean
        features = torch.cat([torch.where(line.mask > 0, line.values, known), line.mask], dim=-1)  # equation 4
        h, states = features.new_zeros(len(features), self.hidden), []
        for x, decay in zip(features.unbind(1), gamma_h.unbind(1), strict=True):
            h = self.cell(x, decay * h)  # equations 5, 10 to 13
            states.append(h)
        return torch.stack(states, dim=1)


class ODERNN(Recurrent):
    """ODE-RNN (Rubanova et al. 2019, algorithm 1): an ODE between observations, a GRU cell at each."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: ConfiguredSolve,
        *,
        hidden: int = 20,
        euler_steps: int = 1,
    ) -> None:
        super().__init__(hidden, outputs)
        self.block = GapBlock(make_dynamics((hidden,)), solve, euler_steps)
        self.cell = nn.GRUCell(2 * shape[-1], hidden)

    def states(self, line: Timeline) -> Tensor:
        self.block.begin(line.gaps)
        h, states = line.values.new_zeros(len(line.values), self.hidden), []
        features, seen = torch.cat([line.values, line.mask], dim=-1), line.mask.any(-1, keepdim=True)
        for x, now, gap in zip(features.unbind(1), seen.unbind(1), line.gaps.unbind(1), strict=True):
            h = self.block.over(h, gap)
            h = torch.where(now, self.cell(x, h), h)
            states.append(h)
        return torch.stack(states, dim=1)
