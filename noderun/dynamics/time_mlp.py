"""Fully connected dynamics whose every layer sees the time, as FFJORD's (Grathwohl et al. 2019)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from noderun.dynamics.activations import DERIVATIVES
from noderun.dynamics.activations import activation as named

LAYERS = {  # layer -> whether time scales it, and whether time shifts it
    "ignore": (False, False),
    "concat": (False, True),
    "gated": (True, False),
    "concat_squash": (True, True),
}


class TimeLinear(nn.Linear):
    """(W x + b) sigmoid(a t + c) + d t, without the gate or the shift if the ``layer`` has none.

    A layer of [t, x] is W x + b + d t: that is ``concat``.
    """

    def __init__(self, inputs: int, outputs: int, layer: str) -> None:
        super().__init__(inputs, outputs)
        gated, shifted = LAYERS[layer]
        self.gate = nn.Linear(1, outputs) if gated else None
        self.shift = nn.Linear(1, outputs, bias=False) if shifted else None

    def scale(self, t: Tensor) -> Tensor | None:
        """The gate at t [1 or B, 1], [1 or B, outputs]; None if there is none."""
        return None if self.gate is None else torch.sigmoid(self.gate(t))

    def at(self, t: Tensor, x: Tensor, scale: Tensor | None) -> Tensor:
        """The layer at t [1 or B, 1], whose gate is ``scale``."""
        h = super().forward(x)
        if self.shift is None:
            return h if scale is None else h * scale
        shift = self.shift(t)
        return h + shift if scale is None else torch.addcmul(shift, h, scale)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.at(t, x, self.scale(t))


class TimeMLP(nn.Module):
    """``layers`` such layers with ``activation`` in between, for a state y [B, ...]; t is 0-dim or [B, 1, ...]."""

    def __init__(
        self,
        state_shape: tuple[int, ...],
        layer: str = "concat_squash",
        hidden: int = 64,
        layers: int = 4,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        size = math.prod(state_shape)
        widths = [size, *[hidden] * (layers - 1), size]
        self.layers = nn.ModuleList(TimeLinear(*pair, layer) for pair in zip(widths[:-1], widths[1:], strict=True))
        self.activation, self.derivative = named(activation), DERIVATIVES[activation]

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        t, h = t.reshape(-1, 1), y.flatten(1)
        for i, layer in enumerate(self.layers):
            h = layer(t, self.activation(h) if i else h)
        return h.reshape(y.shape)

    def with_divergence(self, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """f, and tr df/dy [B] by the chain rule from the first layer to the last: as much work as 1 + D calls of f.

        ``columns`` [D, B or 1, width] are those of dh/dy. All is first-order autograd's: a gradient through the trace
        needs no second derivative.
        """
        t, h = t.reshape(-1, 1), y.flatten(1)
        columns: Tensor | None = None
        *inner, last = cast("list[TimeLinear]", list(self.layers))
        for layer in inner:
            scale = layer.scale(t)
            x = layer.at(t, h, scale)
            h = self.activation(x)
            slope = self.derivative(x, h) if scale is None else self.derivative(x, h) * scale
            columns = (layer.weight.t().unsqueeze(1) if columns is None else columns @ layer.weight.t()) * slope
        scale = last.scale(t)
        # the i-th diagonal entry is row i of the last weight times column i
        diagonal = last.weight.diagonal().unsqueeze(0) if columns is None else entries(columns, last.weight)
        trace = diagonal if scale is None else diagonal * scale
        return last.at(t, h, scale).reshape(y.shape), trace.sum(1).expand(len(y))


def entries(columns: Tensor, weight: Tensor) -> Tensor:
    """sum_h weight[i, h] columns[i, b, h] as [B, D]."""
    return torch.bmm(columns, weight.unsqueeze(2)).squeeze(2).t()
