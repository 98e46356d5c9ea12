"""A hybrid system: free fall, and a floor off which a ball bounces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noderun.ode import Event


class BouncingBall(nn.Module):
    """State (height, speed): speed' = -gravity; at height = floor the speed becomes -restitution times itself.

    ``floor`` and ``restitution`` are shared, or, once a model has given every series its own, one per series [N].
    """

    dim = 2  # of the state; the height alone is observed

    def __init__(self, state_shape: tuple[int, ...], gravity: float = 9.81, restitution: float = 0.75) -> None:
        super().__init__()
        if tuple(state_shape) != (1,):
            raise ValueError(f"dynamics=bouncing_ball is seen by its height; the data have {list(state_shape)}")
        self.gravity = gravity
        self.floor = nn.Parameter(torch.tensor(0.0))
        self.restitution = nn.Parameter(torch.tensor(float(restitution)))

    def start_from(self, lowest: Tensor) -> None:
        """Begin with the floor at the lowest heights [N] that were observed."""
        self.floor.data = lowest.expand_as(self.floor).clone() if self.floor.dim() else lowest.min()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[..., 1], torch.full_like(y[..., 1], -self.gravity)], dim=-1)

    def events(self, index: Tensor) -> Sequence[Event]:
        """The bounce of the series with these numbers [B]."""
        floor, restitution = (p[index] if p.dim() else p.expand(len(index)) for p in (self.floor, self.restitution))
        return (Event(self.clearance, -1, reset=self.bounce, args=(floor, restitution)),)

    @staticmethod
    def clearance(t: Tensor, y: Tensor, floor: Tensor, restitution: Tensor) -> Tensor:
        return y[:, 0] - floor

    @staticmethod
    def bounce(t: Tensor, y: Tensor, floor: Tensor, restitution: Tensor) -> Tensor:
        return torch.stack([floor.to(y), -restitution * y[:, 1]], dim=1)
