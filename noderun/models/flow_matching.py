"""Flow matching (Lipman et al. 2023, Tong et al. 2024): a continuous flow whose field is learned without a solve."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from noderun.models.block import MakeDynamics, Solve, SolveBlock
from noderun.models.flow import Flow
from noderun.models.optimal_transport import assignment, squared_distances
from noderun.models.probability_paths import Linear, VariancePreserving


class WithDivergence(nn.Module):
    """d(y, l)/dt = (f, div f), the divergence by one vector-Jacobian product per dimension."""

    def __init__(self, dynamics: nn.Module) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            y = state[0] if state[0].requires_grad else state[0].detach().requires_grad_()
            dy = self.dynamics(t, y)
            flat = dy.flatten(1)
            rows = [
                torch.autograd.grad(flat[:, i].sum(), y, create_graph=keep, retain_graph=True)[0].flatten(1)[:, i]
                for i in range(flat.shape[1])
            ]
        return dy, torch.stack(rows).sum(0)


class WithEnergy(nn.Module):
    """d(x, e)/dt = (f, |f|^2)."""

    def __init__(self, velocity: nn.Module) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        velocity = self.velocity(t, state[0])
        return velocity, velocity.square().flatten(1).sum(1)


class FlowMatching(Flow):
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
    ) -> None:
        super().__init__(shape)
        self.block = SolveBlock(WithDivergence(make_dynamics(self.shape)), solve)
        self.path = VariancePreserving() if path == "vp" else Linear(sigma)
        self.coupling = coupling
        self.transport_points = transport_points

    @property
    def velocity(self) -> nn.Module:
        return self.block.dynamics.dynamics

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
        x, energy = self.block.solve(WithEnergy(self.velocity), (x0, x0.new_zeros(len(x0))), [0.0, 1.0]).ys
        return x[-1], energy[-1]

    def encode(self, y: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, change = self.block((y, y.new_zeros(len(y))), [1.0, 0.0]).ys
        return z[-1], -change[-1]

    def decode(self, z: Tensor) -> Tensor:
        return self.block.solve(self.velocity, z, [0.0, 1.0]).ys[-1]
