"""Models of systems whose state is observed: y(t) from a first state, at the times that a series asks about."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from noderun.data import Dataset, Series
from noderun.dynamics.systems import HamiltonianField, SecondOrder
from noderun.models.block import MakeDynamics, Solve, SolveBlock
from noderun.models.timeline import channel_mask
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.solvers.splitting import Splitting


class Pair(nn.Module):
    """f of a state (q, p) for solvers that move the two in turn."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.f(t, torch.cat(y, dim=-1)).chunk(2, dim=-1)


class ObservedState(nn.Module):
    """inputs [B, T, D], times [B, T], mask [B, T(, D)] to y [B, S, D] at target_times [B, S], or at ``times``.

    The first state is each channel's first observation. f sees the time since a series' first time, and y in the
    units of the data, of which a batch holds (y - mean) / scale; if ``standardized`` it sees the latter.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int, dynamics: nn.Module, solve: Solve, standardized: bool = False) -> None:
        super().__init__()
        self.size, self.standardized = size, standardized
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.pair = isinstance(solve, ConfiguredSolve) and isinstance(solve.method, Splitting)
        if self.pair and size % 2:
            raise ValueError(f"this solver moves positions and momenta in turn; the data have {size} numbers")
        self.block = SolveBlock(Pair(dynamics) if self.pair else dynamics, solve)

    @property
    def dynamics(self) -> nn.Module:
        """f(t, y) of a state y [B, D]."""
        f = self.block.dynamics
        return f.f if isinstance(f, Pair) else f

    def forward(
        self,
        inputs: Tensor,
        times: Tensor,
        mask: Tensor | None = None,
        target_times: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        since = (times if target_times is None else target_times) - times[:, :1]
        first = self.first_state(inputs if self.standardized else self.in_units(inputs), mask, index)
        y = self.states(first, since, index)[..., : self.size]
        return y if self.standardized else (y - self.mean) / self.scale

    @torch.no_grad()
    def prepare_for(self, dataset: Dataset) -> None:
        """Take over the data's units."""
        target = dataset.target
        if isinstance(target, Series) and target.mean is not None and target.scale is not None:
            self.mean.copy_(self.mean.new_tensor(target.mean))
            self.scale.copy_(self.scale.new_tensor(target.scale))

    def in_units(self, x: Tensor) -> Tensor:
        """A batch's values [..., D] in the units of the data."""
        return self.mean + self.scale * x

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt of y [B, D], both in the units of the data."""
        if not self.standardized:
            slope: Tensor = self.dynamics(t, y)
            return slope
        return self.scale * self.dynamics(t, (y - self.mean) / self.scale)

    def first_state(self, inputs: Tensor, mask: Tensor | None, index: Tensor | None) -> Tensor:
        """[B, D]."""
        first = channel_mask(inputs, mask).int().argmax(dim=1, keepdim=True)
        return inputs.gather(1, first)[:, 0]

    def states(self, y0: Tensor, since: Tensor, index: Tensor | None) -> Tensor:
        """y [B, S, N] at the times ``since`` [B, S] the start: one solve over all of them."""
        ts, place = torch.unique(torch.cat([since.new_zeros(1), since.flatten()]), return_inverse=True)
        ys: Any = self.block(tuple(y0.chunk(2, dim=-1)) if self.pair else y0, ts).ys
        ys = torch.cat(ys, dim=-1) if self.pair else ys
        return ys[place[1:].view_as(since), torch.arange(len(y0), device=y0.device).unsqueeze(1)]


class NeuralODE(ObservedState):
    """A net as the field (Chen et al. 2018); of order 2 it is the acceleration, and y holds positions, then speeds."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, make_dynamics: MakeDynamics, solve: Solve, *, order: int = 1
    ) -> None:
        net = make_dynamics((outputs,))
        if order == 2 and outputs % 2:
            raise ValueError(f"model.order=2 takes positions and their speeds; the data have {outputs} numbers")
        super().__init__(outputs, SecondOrder(net) if order == 2 else net, solve, standardized=order == 1)


class ConvNetStepper(NeuralODE):
    """u + N(u) from each whole number of time to the next (Koehler et al. 2024): one Euler step of the field N."""

    def __init__(self, shape: tuple[int, ...], outputs: int, make_dynamics: MakeDynamics) -> None:
        super().__init__(shape, outputs, make_dynamics, ConfiguredSolve("euler", dt=1.0, gradient="backprop"))


class HamiltonianNN(ObservedState):
    """The field of a learned energy (Greydanus et al. 2019)."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, solve: Solve, *, hidden: int = 200, layers: int = 3
    ) -> None:
        super().__init__(outputs, HamiltonianField((outputs,), hidden, layers), solve)
