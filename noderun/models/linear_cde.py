"""Linear controlled equations with block-diagonal matrices (Walker et al. 2025, SLiCE), by a scan."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.data import Dataset
from noderun.models.control import ControlPath
from noderun.models.recurrence import FlowRecurrence

SCALE = 0.05  # of the matrices at the start: z stays of size 1 along paths of size 1


class LinearCDE(nn.Module):
    """dz = sum_c A_c z dX^c, from series [B, T, D] to [B, outputs], or [B, S, outputs] at ``target_times`` [B, S].

    The matrices A_c have ``blocks`` blocks of ``size`` rows. In an interval between observations the control is linear,
    and the flow exp(sum_c A_c dX^c) is its series to ``order``. z(0) is linear in X(0); outputs are those of a net with
    one hidden layer on z.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        blocks: int = 8,
        size: int = 8,
        order: int = 3,
        initial: float | None = None,
        time: bool = True,
    ) -> None:
        super().__init__()
        channels, hidden = shape[-1] + time, blocks * size
        self.control = ControlPath("linear", initial, time)
        self.order = order
        self.encoder = nn.Linear(channels, hidden)
        self.matrices = nn.Parameter(SCALE * torch.randn(size, size, blocks, channels))
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def prepare_for(self, dataset: Dataset) -> None:
        """Raise DataError if the model cannot take a series of the set."""
        self.control.prepare_for(dataset)

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        control = self.control(inputs, times, mask, target_times)
        outputs: Tensor = self.head(control.outputs(self.states(control.start, control.increments)))
        return outputs

    def states(self, start: Tensor, increments: Tensor) -> Tensor:
        """z [B, K + 1, H] at the knots of a control from X(0) [B, C] with increments [B, K, C]."""
        size, _, blocks, channels = self.matrices.shape
        z0 = self.encoder(start).t().reshape(size, -1)  # block after block, and the examples of each
        steps = increments.permute(1, 2, 0)
        # sum_c A_c dX^c [K, n n blocks, B]; bmm, for matmul would copy all of it into another layout
        flat = torch.bmm(self.matrices.view(-1, channels).expand(len(steps), -1, -1), steps)
        states = FlowRecurrence.apply(flat.view(len(flat), size, size, -1), z0, self.order)
        return states.view(len(states), size * blocks, -1).permute(2, 0, 1)
