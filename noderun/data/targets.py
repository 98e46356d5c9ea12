"""What a data set asks a model for. A set declares one of these; model and objective are chosen to fit it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from noderun.data.system import System
from noderun.data.transforms import Transform


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
    """The density that the examples, points in ``dim`` dimensions, were drawn from; there are no targets.

    ``transform`` goes from the data to the space in which a flow learns it; None stays where the data are.
    """

    dim: int
    transform: Transform | None = None

    @property
    def outputs(self) -> int:
        return self.dim


@dataclass(frozen=True)
class Series:
    """``dim`` real numbers at each time: targets are float32 [B, S, dim] at ``Batch.target_times`` [B, S].

    Only those count whose ``Batch.target_mask`` is true; without one all do. If a batch has no target_times, the
    targets are at ``times`` and ``mask`` says which count. The targets are (values - mean) / scale per channel; errors
    are reported in the units of the data. ``system`` is what is known of what made the series.
    """

    dim: int
    scale: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    system: System = field(default_factory=System)

    @property
    def outputs(self) -> int:
        return self.dim


Target = Classes | Values | Density | Series
