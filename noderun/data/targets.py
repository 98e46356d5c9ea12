"""What a data set asks a model for. A set declares one of these; model and objective are chosen to fit it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Classes:
    """One of ``count`` classes per example: targets are int64 [B], from 0 to count - 1."""

    count: int

    @property
    def outputs(self) -> int:
        return self.count


@dataclass(frozen=True)
class Values:
    """Real numbers per example: targets are float32 [B, *shape]."""

    shape: tuple[int, ...]

    @property
    def outputs(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Density:
    """The density that the examples, points in ``dim`` dimensions, were drawn from; there are no targets."""

    dim: int

    @property
    def outputs(self) -> int:
        return self.dim


@dataclass(frozen=True)
class Series:
    """``dim`` real numbers at each time: targets are float32 [B, T, dim] at ``Batch.times`` [B, T].

    Only those count whose ``Batch.mask`` [B, T] is true; without a mask all do.
    """

    dim: int

    @property
    def outputs(self) -> int:
        return self.dim


Target = Classes | Values | Density | Series
