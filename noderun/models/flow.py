"""The interface of normalizing flows: a density that is a bijection from the data to a standard normal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noderun.data.transforms import Transform


class Flow(nn.Module):
    """log p(x) = log N(z; 0, I) + log |det dz/dx| (Rezende and Mohamed 2015, equation 5), and samples by the inverse.

    A subclass defines ``encode(y, index) -> (z, log |det dz/dy| [B])`` and ``decode(z) -> y``. ``shape`` is that of one
    example. ``transform`` goes from the data to y; it comes with the data set. ``index`` [B] is each example's number
    in its split, from which an encoder that needs noise takes it. ``given`` is what a conditional flow is conditioned
    on: keywords that its ``encode`` and ``decode`` take beside these.
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

    def decode_with_log_det(self, z: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """decode(z) and log |det dy/dz| [B], of which a flow that is trained by its own samples needs both."""
        raise NotImplementedError

    @property
    def sampling_stats(self) -> Sequence[Any]:
        """The statistics of the solves that the last ``decode`` made; empty if it solved nothing."""
        return ()

    def forward(self, x: Tensor, index: Tensor | None = None, **given: Any) -> Tensor:
        """log p(x) [B] in nats, in the units of the data."""
        y, log_det = self.transform(x)
        z, change = self.encode(y, index, **given)
        return log_normal(z) + change + log_det

    log_prob = forward

    @torch.no_grad()
    def inverse_error(self, x: Tensor, **given: Any) -> Tensor:
        """|decode(encode(x)) - x| / |x| [] over all of x [B, ...], in the space of the flow."""
        y, _ = self.transform(x)
        z, _ = self.encode(y, **given)
        return torch.linalg.vector_norm(self.decode(z, **given) - y) / torch.linalg.vector_norm(y)

    @torch.no_grad()
    def sample(
        self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0, **given: Any
    ) -> Tensor:
        """Draws [n, *shape] in the units of the data; ``temperature`` scales the normal that they start from."""
        like = next(self.parameters())
        z = torch.randn(n, *self.shape, generator=generator, device=like.device, dtype=like.dtype)
        return self.transform.inverse(self.decode(temperature * z, **given))


def log_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) [B] of z [B, ...]."""
    z = z.flatten(1)
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))
