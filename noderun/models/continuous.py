"""Continuous normalizing flows (Chen et al. 2018, section 4): the log-determinant is solved beside the state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from noderun import noise
from noderun.models.block import Solve, SolveBlock, Times
from noderun.models.divergence import exact_divergence, hutchinson
from noderun.models.flow import Flow
from noderun.models.moving_batch_norm import MovingBatchNorm
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.solvers.control import leading_rms
from noderun.regularizers.quadrature import Field, Integrand, Regularizer, of_point, with_args

NOISE = {"gaussian": noise.normal, "rademacher": noise.rademacher}  # of Hutchinson's estimate
# in place of fixed steps, which have no tolerance
ADAPTIVE: dict[str, Any] = {"solver": "dopri5", "solver_options": None, "dt": None, "compile": None}
ADAPTIVE |= {"gradient": "checkpointed", "gradient_options": None}


class LogDetField(nn.Module):
    """d(y, l)/dt = (f, tr df/dy) (theorem 1): l is log |det| of the map from the start of the solve to y(t).

    The trace is exact, or with ``noise`` [B, ...] Hutchinson's estimate. l is [B, 1, ..., 1].
    ``condition`` are further arguments of the velocity, a row per example.
    """

    def __init__(self, velocity: nn.Module) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(
        self, t: Tensor, state: tuple[Tensor, Tensor], noise: Tensor | None = None, *condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, log_det = state
        velocity = with_args(self.velocity, condition)
        if noise is None:
            dy, trace = exact_divergence(velocity, t, y)
        else:
            dy, trace = hutchinson(velocity, t, y, noise)
        return dy, trace.reshape(log_det.shape)


class FlowBlock(SolveBlock):
    """The bijection from y(t1) to y(0): called, it returns y(0) and log |det dy(0)/dy(t1)| [B]; ``inverse`` goes back.

    ``divergence`` (exact or hutchinson) is that of training, ``test_divergence`` that of testing. Hutchinson's noise is
    fixed for a solve and a function of each example's index: by a new seed in each training pass, by ``test_seed`` in
    testing. Tests keep ``test_tolerance``, whatever the steps of training; None takes those. ``inverse_stats`` are the
    statistics of the last solve back. ``condition`` are further arguments of the velocity, a row per example.
    """

    dynamics: LogDetField
    test_seed: int = 0
    inverse_stats: Any = None

    def __init__(
        self,
        velocity: nn.Module,
        solve: Solve,
        t1: float = 1.0,
        learn_t1: bool = False,
        divergence: str = "exact",
        noise: str = "rademacher",
        test_divergence: str = "exact",
        test_tolerance: float | None = 1e-5,
    ) -> None:
        super().__init__(LogDetField(velocity), solve)
        self.log_t1 = nn.Parameter(torch.tensor(t1).log()) if learn_t1 else None
        self.end = t1
        self.divergence, self.test_divergence, self.draw = divergence, test_divergence, NOISE[noise]
        self.test_tolerance = test_tolerance

    def times(self) -> Times:
        """0 and t1; numbers on the host if they are not learned, for which no device has to wait."""
        if self.log_t1 is None:
            return [0.0, self.end]
        return torch.stack([torch.zeros_like(self.log_t1), self.log_t1.exp()])

    def forward(  # type: ignore[override]
        self, y: Tensor, index: Tensor | None = None, *condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.carried(y, backward(self.times()), index, *condition)

    def inverse_with_log_det(self, z: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y(t1) of y(0) = z, and log |det dy(t1)/dz| [B]."""
        return self.carried(z, self.times(), index)

    def carried(self, y: Tensor, times: Times, index: Tensor | None, *condition: Tensor) -> tuple[Tensor, Tensor]:
        """y at the end of the times, and log |det| [B] of that map."""
        start = (y, y.new_zeros(len(y), *(1 for _ in y.shape[1:])))
        noise = self.noise(y, index)
        args = () if noise is None and not condition else (noise, *condition)
        ys, log_dets = self.integrate(start, times, args=args, **self.in_testing()).ys
        return ys[-1], log_dets[-1].flatten()

    def inverse(self, z: Tensor, *condition: Tensor) -> Tensor:
        """y(t1) of y(0) = z alone, which costs no trace."""
        norm = {"norm": "rms"} if callable(getattr(self.solve, "norm", None)) else {}  # of a point with its log-density
        given = self.in_testing() | norm | {"args": condition}
        solution = self.solve(self.dynamics.velocity, z, self.times(), **given)
        self.inverse_stats = solution.stats
        return solution.ys[-1]

    def noise(self, y: Tensor, index: Tensor | None) -> Tensor | None:
        """Hutchinson's noise for one solve [B, ...]; None for the exact trace."""
        if (self.divergence if self.training else self.test_divergence) == "exact":
            return None
        seed = noise.next_seed() if self.training else self.test_seed
        index = torch.arange(len(y), device=y.device) if index is None else index
        return self.draw(seed, index, tuple(y.shape[1:]), y.dtype)

    def in_testing(self) -> dict[str, Any]:
        """What of the solve is different in testing."""
        if self.training or self.test_tolerance is None:
            return {}
        adaptive = {} if getattr(self.solve, "dt", None) is None else ADAPTIVE
        return {"rtol": self.test_tolerance, "atol": self.test_tolerance, **adaptive}

    def integrand(self, regularizer: Regularizer, y0: Any) -> Integrand:
        return of_point(regularizer(y0[0]), self.dynamics.velocity)

    def point(self, state: Any, args: tuple[Any, ...]) -> tuple[Field, Any]:
        return self.dynamics.velocity, state[0]


class ContinuousFlow(Flow):
    """A chain of FlowBlocks from the data to the normal, one for each velocity f(t, y), with their inverses.

    With ``batch_norm`` a MovingBatchNorm stands between two blocks. ``norm`` is what the solver's error norm sees:
    ``full`` y and the log-determinant, ``point`` y alone. The rest is passed to each block.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        velocities: Sequence[nn.Module],
        solve: Solve,
        *,
        norm: str = "full",
        batch_norm: bool = True,
        **of_block: Any,
    ) -> None:
        super().__init__(shape)
        if norm == "point":
            assert isinstance(solve, ConfiguredSolve)
            dim = math.prod(shape)
            solve = replace(solve, norm=leading_rms(dim, dim + 1))
        chain: list[nn.Module] = []
        for velocity in velocities:
            if chain and batch_norm:
                chain.append(MovingBatchNorm(shape))
            chain.append(FlowBlock(velocity, solve, **of_block))
        self.chain = nn.ModuleList(chain)

    def encode(self, y: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = y.new_zeros(len(y))
        for part in self.parts():
            y, change = part(y, index)
            log_det = log_det + change
        return y, log_det

    def decode(self, z: Tensor) -> Tensor:
        for part in reversed(self.parts()):
            z = part.inverse(z)
        return z

    def decode_with_log_det(self, z: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(len(z))
        for part in reversed(self.parts()):
            z, change = part.inverse_with_log_det(z, index)
            log_det = log_det + change
        return z, log_det

    @property
    def sampling_stats(self) -> list[Any]:
        return [part.inverse_stats for part in self.chain if isinstance(part, FlowBlock)]

    def parts(self) -> list[FlowBlock | MovingBatchNorm]:
        return cast("list[FlowBlock | MovingBatchNorm]", list(self.chain))


def backward(times: Times) -> Times:
    return times.flip(0) if isinstance(times, Tensor) else times[::-1]
