"""Discrete normalizing flows by the library zuko: RealNVP, neural spline flows and masked autoregressive flows."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from noderun.models.flow import Flow


class ZukoFlow(Flow):
    """``zuko.flows.NAME(features, **options)`` on the flattened example."""

    def __init__(self, name: str, shape: tuple[int, ...], outputs: int, **options: Any) -> None:
        import zuko

        super().__init__(shape)
        self.flow = getattr(zuko.flows, name)(math.prod(shape), **options)

    def encode(self, y: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.flow.transform().call_and_ladj(y.flatten(1))
        return z.view_as(y), log_det

    def decode_with_log_det(self, z: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_det = self.flow.transform().inv.call_and_ladj(z.flatten(1))
        return y.view_as(z), log_det

    def decode(self, z: Tensor) -> Tensor:
        return self.flow.transform().inv(z.flatten(1)).view_as(z)
