"""Flows of a variational posterior, whose parameters an encoder gives for each example (amortized).

``flow(z, h, index)`` carries z [B, D] by the flow that the features h [B, H] choose: to z' [B, D], with
log |det dz'/dz| [B].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noderun import noise
from noderun.models.block import Solve, SolveBlock
from noderun.models.divergence import hutchinson
from noderun.models.planar import invertible, planar

FIRST_SCALE = 0.1


class NoFlow(nn.Module):
    def forward(self, z: Tensor, h: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(len(z))


class AmortizedPlanar(nn.Module):
    """``layers`` planar maps with u, w and b of each example (van den Berg et al. 2018)."""

    def __init__(self, features: int, dim: int, layers: int) -> None:
        super().__init__()
        self.sizes = [dim, dim, 1]
        self.layers = layers
        self.parameters_of = nn.Linear(features, layers * sum(self.sizes))

    def forward(self, z: Tensor, h: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(len(z))
        for layer in self.parameters_of(h).view(len(h), self.layers, -1).unbind(1):
            u, w, b = layer.split(self.sizes, dim=1)
            z, change = planar(z, invertible(u, w), w, b.squeeze(1))
            log_det = log_det + change
        return z, log_det


class LowRankMLP(nn.Module):
    """Layers tanh((W + U V') y + w t + b) with U, V [B, ., rank] and b of each example, W and w of all of them.

    The last one is linear (Grathwohl et al. 2019, section 4.2). With softplus in place of tanh the field grows with y,
    and training overflows within ten steps.
    """

    def __init__(self, dim: int, hidden: Sequence[int], rank: int) -> None:
        super().__init__()
        widths = [dim, *hidden, dim]
        self.rank = rank
        self.pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.layers = nn.ModuleList(nn.Linear(1 + inputs, outputs) for inputs, outputs in self.pairs)

    @property
    def sizes(self) -> list[int]:
        """How many numbers each example gives: U, V and b of each layer."""
        return [size for i, o in self.pairs for size in (o * self.rank, i * self.rank, o)]

    def forward(self, t: Tensor, y: Tensor, given: Sequence[Tensor]) -> Tensor:
        time = t.reshape(-1, 1).expand(len(y), 1).to(y)
        for number, layer in enumerate(self.layers):
            u, v, b = given[3 * number : 3 * number + 3]
            y = torch.tanh(y) if number else y
            within = torch.bmm(y.unsqueeze(1), v.view(len(y), -1, self.rank))  # y'V [B, 1, rank]
            change = torch.bmm(within, u.view(len(y), self.rank, -1)).squeeze(1)
            y = layer(torch.cat([time, y], dim=1)) + change + b
        return y


class AmortizedField(nn.Module):
    """d(z, l)/dt = (f, e' df/dz e): the log-determinant by Hutchinson's estimate with one noise e per solve."""

    def __init__(self, net: LowRankMLP) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor], e: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        return hutchinson(lambda time, y: self.net(time, y, given), t, state[0], e)


class AmortizedFFJORD(nn.Module):
    """z(1) of a free-form flow from z(0) = z whose weights differ by a matrix of ``rank`` for each example.

    The estimate of the log-determinant has no bias, so neither has the mean of an ELBO, in training or testing.
    """

    def __init__(self, features: int, dim: int, hidden: Sequence[int], rank: int, solve: Solve) -> None:
        super().__init__()
        net = LowRankMLP(dim, hidden, rank)
        self.block = SolveBlock(AmortizedField(net), solve)
        self.parameters_of = nn.Linear(features, sum(net.sizes))
        self.sizes = net.sizes
        with torch.no_grad():  # flows that differ little between examples at first
            self.parameters_of.weight.mul_(FIRST_SCALE)
            self.parameters_of.bias.mul_(FIRST_SCALE)

    def forward(self, z: Tensor, h: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        seed = noise.next_seed() if self.training else 0
        index = torch.arange(len(z), device=z.device) if index is None else index
        e = noise.rademacher(seed, index, tuple(z.shape[1:]), z.dtype)
        given: tuple[Any, ...] = (e, *self.parameters_of(h).split(self.sizes, dim=1))
        zs, log_dets = self.block.integrate((z, z.new_zeros(len(z))), [0.0, 1.0], args=given).ys
        return zs[-1], log_dets[-1]
