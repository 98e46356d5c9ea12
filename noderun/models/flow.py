"""The interface of normalizing flows: a density that is a bijection from the data to a standard normal."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from noderun.data.transforms import Transform


class Flow(nn.Module):
    """log p(x) = log N(z; 0, I) + log |det dz/dx| (Rezende and Mohamed 2015, equation 5), and samples by the inverse.

    A subclass defines ``encode(y, index) -> (z, log |det dz/dy| [B])`` and ``decode(z) -> y``. ``shape`` is that of one
    example. ``transform`` goes from the data to y; it comes with the data set. ``index`` [B] is each example's number
    in its split, from which an encoder that needs noise takes it.
    """

    transform: Transform

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.transform = Transform()

    def encode(self, y: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def draw(self, z: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y of a point z of the normal, and log |det dy/dz| [B]: ``decode`` with its change of volume."""
        y = self.decode(z)
        return y, -self.encode(y, index)[1]

    def forward(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """log p(x) [B] in nats, in the units of the data."""
        y, log_det = self.transform(x)
        z, change = self.encode(y, index)
        return log_normal(z) + change + log_det

    log_prob = forward

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Draws [n, *shape] in the units of the data; ``temperature`` scales the normal that they start from."""
        like = next(self.parameters())
        z = torch.randn(n, *self.shape, generator=generator, device=like.device, dtype=like.dtype)
        return self.transform.inverse(self.decode(temperature * z))


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) [B] of z [B, ...]."""
    z = z.flatten(1)
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))
