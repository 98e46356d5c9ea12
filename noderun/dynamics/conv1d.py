"""Convolutional dynamics of a state on a periodic grid: the method of lines with a learned stencil."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.dynamics.activations import activation as named


class Conv1d(nn.Module):
    """``layers`` circular convolutions with ``activation`` in between, for a state y [B, points].

    f commutes with translations along the grid. A point of f sees as many points on each side as ``reach``. With
    ``time``, t is a second input channel of the first convolution.
    """

    def __init__(
        self,
        state_shape: tuple[int, ...],
        hidden: int = 32,
        layers: int = 4,
        kernel: int = 5,
        activation: str = "silu",
        time: bool = False,
    ) -> None:
        super().__init__()
        if len(state_shape) != 1:
            raise ValueError(f"dynamics conv1d needs a state [points] on a periodic grid, got {list(state_shape)}")
        if kernel % 2 == 0:
            raise ValueError(f"dynamics.kernel={kernel} has no middle: give an odd number, as {kernel + 1}")
        self.time, self.reach = time, layers * (kernel // 2)
        if self.reach > state_shape[0]:
            raise ValueError(
                f"dynamics conv1d sees {self.reach} points on each side, and the grid has {state_shape[0]}: give fewer "
                "dynamics.layers or a smaller dynamics.kernel"
            )
        widths = [1 + time, *[hidden] * (layers - 1), 1]
        parts: list[nn.Module] = []
        for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
            parts += [nn.Conv1d(inputs, outputs, kernel), named(activation)]
        self.net = nn.Sequential(*parts[:-1])

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        # wrapped once for all convolutions, each of which shortens the row
        h = torch.cat([y[:, y.shape[1] - self.reach :], y, y[:, : self.reach]], dim=1).unsqueeze(1)
        if self.time:
            h = torch.cat([h, t.reshape(-1, 1, 1).expand_as(h).to(h)], dim=1)
        return self.net(h).squeeze(1)
