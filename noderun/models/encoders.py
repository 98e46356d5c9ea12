"""Encoders of a latent ODE: from the observations of a series to a state at time 0, read backward in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.models.block import MakeDynamics
from noderun.models.gap import GapBlock
from noderun.models.timeline import channel_mask
from noderun.ode.configured import ConfiguredSolve


def backward_in_time(inputs: Tensor, times: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Features [B, T, 2 D + 1] of the observations from last to first, the gap before each, and how many there are.

    The features are values, what was observed, and the gap [B, T] to the observation before, which of the first is
    its time. Padding follows at the end, where its gaps are 0.
    """
    observed = channel_mask(inputs, mask)
    counts = observed.any(-1).sum(1)
    place = torch.arange(times.shape[1], device=times.device)
    there = place < counts.unsqueeze(1)
    order = torch.where(there, counts.unsqueeze(1) - 1 - place, place)
    gaps = torch.diff(times, dim=1, prepend=times.new_zeros(len(times), 1)).gather(1, order) * there
    index = order.unsqueeze(-1).expand_as(inputs)
    seen = observed.gather(1, index)
    values = torch.where(seen, inputs.gather(1, index), 0.0)
    return torch.cat([values, seen.to(values), gaps.unsqueeze(-1)], dim=-1), gaps, counts


class BackwardRNN(nn.Module):
    """The recognition net of Chen et al. (2018), section 5, with a GRU: the state after the first observation."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(2 * channels + 1, hidden, batch_first=True)

    def forward(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> Tensor:
        features, _, counts = backward_in_time(inputs, times, mask)
        states = self.gru(features)[0]
        last = (counts - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        return states.gather(1, last)[:, 0]


class BackwardODERNN(nn.Module):
    """The encoder of Rubanova et al. (2019): an ODE-RNN from the last observation back to time 0."""

    def __init__(
        self, channels: int, hidden: int, make_dynamics: MakeDynamics, solve: ConfiguredSolve, euler_steps: int
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.block = GapBlock(make_dynamics((hidden,)), solve, euler_steps)
        self.cell = nn.GRUCell(2 * channels, hidden)

    def forward(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> Tensor:
        features, gaps, counts = backward_in_time(inputs, times, mask)
        self.block.begin(gaps)
        h = inputs.new_zeros(len(inputs), self.hidden)
        for k, (x, gap) in enumerate(zip(features[..., :-1].unbind(1), gaps.unbind(1), strict=True)):
            h = torch.where((k < counts).unsqueeze(1), self.cell(x, h), h)
            h = self.block.over(h, -gap)
        return h


class ContextGRU(nn.Module):
    """What a GRU has read when it comes to each observation, [B, T, context]: of the observations from there on, and
    with ``both`` of those up to there as well; beside it the observation itself, which a state of the GRU rounds."""

    def __init__(self, channels: int, hidden: int, both: bool) -> None:
        super().__init__()
        self.backward_gru = nn.GRU(2 * channels + 1, hidden, batch_first=True)
        self.forward_gru = nn.GRU(2 * channels + 1, hidden, batch_first=True) if both else None
        self.size = hidden * (1 + both) + 2 * channels

    def forward(self, inputs: Tensor, times: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The contexts, the times of the observations [B, T], infinite where padding stands, and the last [B, 1]."""
        features, _, counts = backward_in_time(inputs, times, mask)
        ordered = in_order(features, counts)
        parts = [in_order(self.backward_gru(features)[0], counts), ordered[..., :-1]]
        if self.forward_gru is not None:
            parts.append(self.forward_gru(ordered)[0])
        place = torch.arange(times.shape[1], device=times.device)
        there = place < counts.unsqueeze(1)
        last = torch.where(there, times, -torch.inf).amax(1, keepdim=True)
        return torch.cat(parts, dim=-1), torch.where(there, times, torch.inf), last


def in_order(rows: Tensor, counts: Tensor) -> Tensor:
    """[B, T, ...] of which the first counts[b] rows are turned round, back in the order of time."""
    place = torch.arange(rows.shape[1], device=rows.device)
    order = torch.where(place < counts.unsqueeze(1), counts.unsqueeze(1) - 1 - place, place)
    return rows.gather(1, order.unsqueeze(-1).expand_as(rows))
