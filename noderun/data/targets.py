"""What a data set asks a model for. A set declares one of these; model and objective are chosen to fit it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

from torch import Tensor

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
    """Real numbers per example: targets are float32 [B, *shape].

    If they are known to minimize an energy, ``energy(inputs, outputs)`` is that of each example [B].
    """

    shape: tuple[int, ...]
    energy: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, repr=False)

    @property
    def outputs(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Density:
    """The density that the examples, points in ``dim`` dimensions, were drawn from.

    With ``classes`` it is the density given one of so many equally probable classes, which are the targets: int64 [B],
    from 0 to classes - 1. Otherwise there are no targets.

    ``transform`` goes from the data to the space in which a flow learns it; None stays where the data are.
    ``source`` names the data set whose points, ``Batch.source``, a flow is to carry to this density; None: a flow
    starts from a standard normal. ``entropy`` is that of the density in nats, if it is known: no model has a smaller
    mean of -log p(x).
    """

    dim: int
    transform: Transform | None = None
    source: str | None = None
    entropy: float | None = None
    classes: int | None = None

    @property
    def outputs(self) -> int:
        return self.dim


@dataclass(frozen=True)
class Energy:
    """The density exp(-energy(z)) / Z in ``dim`` dimensions; ``energy`` takes z [B, dim] and returns [B].

    There are no examples of it and no targets: the inputs are drawn from a standard normal, which a flow is to carry to
    that density. ``log_normalizer`` is log Z.
    """

    dim: int
    energy: Callable[[Tensor], Tensor]
    log_normalizer: float

    @property
    def outputs(self) -> int:
        return self.dim


@dataclass(frozen=True)
class Levels:
    """The probability of examples whose ``dim`` numbers are 0, 1, ..., count - 1, each divided by count - 1.

    Two levels are black and white; the inputs [B, ...] are float32 in [0, 1].
    """

    dim: int
    count: int

    @property
    def outputs(self) -> int:
        """The logits per example: one number for two levels, otherwise one for each level."""
        return self.dim * (1 if self.count == 2 else self.count)


@dataclass(frozen=True)
class Series:
    """``dim`` real numbers at each time: targets are float32 [B, S, dim] at ``Batch.target_times`` [B, S].

    Only those count whose ``Batch.target_mask`` is true; without one all do. If a batch has no target_times, the
    targets are at ``times`` and ``mask`` says which count. The targets are (values - mean) / scale per channel; errors
    are reported in the units of the data. ``system`` is what is known of what made the series.
    """

    dim: int
    scale: tuple[float, ...] | None = field(default=None, repr=False)
    mean: tuple[float, ...] | None = field(default=None, repr=False)
    system: System = field(default_factory=System, repr=False)

    @property
    def outputs(self) -> int:
        return self.dim


Target = Classes | Values | Density | Energy | Levels | Series
TARGETS: tuple[type, ...] = get_args(Target)
