"""FFJORD (Grathwohl et al. 2019): a continuous flow along any dynamics."""

from __future__ import annotations

import logging
import math
from typing import Any

from noderun.models.block import MakeDynamics, Solve
from noderun.models.continuous import ContinuousFlow

COSTLY = 500  # dimensions: an exact trace of more is worth a warning
log = logging.getLogger(__name__)


class FFJORD(ContinuousFlow):
    """``blocks`` continuous flows, each along dynamics of its own; log p(x) [B] of x [B, *shape]."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: Solve,
        *,
        blocks: int = 1,
        divergence: str = "exact",
        test_divergence: str = "exact",
        **options: Any,
    ) -> None:
        velocities = [make_dynamics(shape) for _ in range(blocks)]
        super().__init__(shape, velocities, solve, divergence=divergence, test_divergence=test_divergence, **options)
        for key, chosen in (("divergence", divergence), ("test_divergence", test_divergence)):
            if chosen == "exact" and math.prod(shape) > COSTLY:
                warn_of_cost(key, math.prod(shape))


def warn_of_cost(key: str, dim: int) -> None:
    when = "in testing" if key.startswith("test") else "in training"
    log.warning(
        "model.%s=exact: the trace of %d dimensions costs about %d times as much as f, %s; model.%s=hutchinson costs "
        "about as much as f, and its noise is the price",
        key, dim, dim, when, key,
    )  # fmt: skip
