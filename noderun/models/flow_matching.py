"""Flow matching (Lipman et al. 2023, Tong et al. 2024): a continuous flow whose field is learned without a solve."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import torch
from torch import Tensor, nn

from noderun.models.block import MakeDynamics, Solve
from noderun.models.continuous import ContinuousFlow, FlowBlock
from noderun.models.ffjord import COSTLY, warn_of_cost
from noderun.models.optimal_transport import assignment, squared_distances
from noderun.models.probability_paths import Linear, VariancePreserving


class WithEnergy(nn.Module):
    """d(x, e)/dt = (f, |f|^2)."""

    def __init__(self, velocity: nn.Module) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        velocity = self.velocity(t, state[0])
        return velocity, velocity.square().flatten(1).sum(1)


class FlowMatching(ContinuousFlow):
    """x(1) of dx/dt = f(t, x) from x(0) of the source: a standard normal, or the points that come with the data.

    ``path`` joins points of the source and of the data, which ``coupling`` pairs: independent, or by exact optimal
    transport within the batch. ``source`` comes with the data set: its name, or None for the normal.
    """

    source: str | None = None

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        make_dynamics: MakeDynamics,
        solve: Solve,
        *,
        path: str = "linear",
        sigma: float = 0.0,
        coupling: str = "independent",
        transport_points: int = 2000,
        test_divergence: str = "exact",
        **options: Any,
    ) -> None:
        options |= {"divergence": test_divergence, "test_divergence": test_divergence}
        super().__init__(shape, [make_dynamics(shape)], solve, **options)
        self.path = VariancePreserving() if path == "vp" else Linear(sigma)
        self.coupling = coupling
        self.transport_points = transport_points
        if test_divergence == "exact" and math.prod(shape) > COSTLY:
            warn_of_cost("test_divergence", math.prod(shape))

    @property
    def block(self) -> FlowBlock:
        return cast(FlowBlock, self.chain[0])

    @property
    def velocity(self) -> nn.Module:
        return self.block.dynamics.velocity

    def regression(self, x: Tensor, source: Tensor | None) -> dict[str, Tensor]:
        """The mean of |f(t, x_t) - u_t|^2 per dimension, and what pairing cost, in milliseconds."""
        x1, _ = self.transform(x)
        x0 = torch.randn_like(x1) if source is None else self.transform(source)[0]
        cost: dict[str, Tensor] = {}
        if self.coupling == "ot":
            start = time.perf_counter()
            x0 = x0[assignment(squared_distances(x0, x1))]
            cost["coupling_ms"] = torch.tensor(1000 * (time.perf_counter() - start))
        t = self.path.last * torch.rand(len(x1), *[1] * (x1.dim() - 1), device=x1.device)
        point, velocity = self.path(x0, x1, t)
        return {"loss": (self.velocity(t, point) - velocity).square().mean()} | cost

    def euler(self, x0: Tensor) -> Tensor:
        """x(1) by one step of Euler's method."""
        return x0 + self.velocity(x0.new_zeros(()), x0)

    def transport(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """x(1), and the integral of |f|^2 along each path [B]."""
        block, start = self.block, (x0, x0.new_zeros(len(x0)))
        solution = block.solve(WithEnergy(self.velocity), start, block.times(), **block.in_testing())
        block.inverse_stats = solution.stats
        x, energy = solution.ys
        return x[-1], energy[-1]

    def sample(self, n: int, *, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if self.source is not None:
            raise ValueError(f"this flow starts from points of {self.source}, not from a normal: give some to decode()")
        return super().sample(n, generator=generator, temperature=temperature)
