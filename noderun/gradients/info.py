"""What is to be known of a gradient method before it is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GradientInfo:
    """``exact``: the gradient of the discrete solve to round-off; ``held``: between the forward and the backward."""

    exact: bool
    held: str
    source: str
    description: str
