"""Batch normalization as a bijection between the blocks of a flow, by moving statistics in training too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM, EPS = 0.1, 1e-4  # the authors'


class MovingBatchNorm(nn.Module):
    """z = (y - mean) / sqrt(var + eps) exp(a) + b per channel (Dinh et al. 2017; FFJORD's moving batch norm).

    y is [B, D] or [B, C, H, W]. Mean and variance are running averages without a gradient, in training as in testing:
    the map is then the same for each example, whatever the others of its batch, and has the determinant that is
    counted. The first batch in training sets them.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, *sizes = shape
        self.spread = (channels, *(1 for _ in sizes))
        self.log_scale, self.bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, y: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z and log |det dz/dy| [B]; a training pass updates the averages first."""
        if self.training:
            self.update(y.detach())
        scale = self.spread_out(self.total_log_scale().exp())
        return (y - self.spread_out(self.mean)) * scale + self.spread_out(self.bias), self.log_det(y)

    def log_det(self, y: Tensor) -> Tensor:
        """log |det dz/dy| [B], the same everywhere."""
        return (self.total_log_scale().sum() * y[0, 0].numel()).expand(len(y))

    def inverse_with_log_det(self, z: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), -self.log_det(z)

    def inverse(self, z: Tensor) -> Tensor:
        scale = self.spread_out(self.total_log_scale().neg().exp())
        return (z - self.spread_out(self.bias)) * scale + self.spread_out(self.mean)

    def total_log_scale(self) -> Tensor:
        return self.log_scale - 0.5 * (self.variance + EPS).log()

    def spread_out(self, values: Tensor) -> Tensor:
        return values.view(self.spread)

    @torch.no_grad()
    def update(self, y: Tensor) -> None:
        variance, mean = torch.var_mean(y, dim=[0, *range(2, y.dim())], correction=0)
        weight = torch.where(self.batches == 0, 1.0, MOMENTUM)
        self.mean.lerp_(mean.to(self.mean.dtype), weight.to(self.mean))
        self.variance.lerp_(variance.to(self.mean.dtype), weight.to(self.mean))
        self.batches += 1
