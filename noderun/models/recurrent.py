"""Recurrent nets of irregular series, which read observations in order and answer from their hidden state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.models.timeline import Timeline, timeline


class Recurrent(nn.Module):
    """inputs [B, T, D], times [B, T], mask [B, T(, D)] to [B, outputs], or to [B, S, outputs] at target_times [B, S].

    A subclass defines ``states(line) -> [B, L, hidden]``. An answer at a time uses what was observed before it.
    """

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.readout = nn.Linear(hidden, outputs)

    def states(self, line: Timeline) -> Tensor:
        raise NotImplementedError

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        line = timeline(inputs, times, mask, target_times)
        states = self.states(line)
        found = states.gather(1, line.asked.unsqueeze(-1).expand(-1, -1, self.hidden))
        answers: Tensor = self.readout(found)
        return answers if target_times is not None else answers[:, 0]


class RNN(Recurrent):
    """A GRU whose inputs are the path, its increments, the time since the last moment, and what was observed."""

    def __init__(self, shape: tuple[int, ...], outputs: int, *, hidden: int = 64) -> None:
        super().__init__(hidden, outputs)
        self.gru = nn.GRU(3 * shape[-1] + 1, hidden, batch_first=True)

    def states(self, line: Timeline) -> Tensor:
        path = line.filled()
        increments = torch.diff(path, dim=1, prepend=path[:, :1])
        features = torch.cat([path, increments, line.mask, line.gaps.unsqueeze(-1)], dim=-1)
        states: Tensor = self.gru(features)[0]
        return states
