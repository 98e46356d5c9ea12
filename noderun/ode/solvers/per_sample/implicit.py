"""The base of all implicit methods for many samples, each with its own step size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from noderun.ode.solvers.implicit import STEADY
from noderun.ode.solvers.per_sample.newton import NewtonState
from noderun.ode.solvers.per_sample.step import BatchedMethod, SampleStep, State

Newton = TypeVar("Newton", bound=NewtonState)


class BatchedImplicitMethod(BatchedMethod[State]):
    """A method whose stages are solved for."""

    def factors(self, ratio: Tensor, errors: Tensor, step: SampleStep, state: State) -> Tensor:
        return steady(super().factors(ratio, errors, step, state), ratio)

    def plus(self, y: Tensor, weights: Sequence[float], us: Sequence[Tensor]) -> Tensor:
        """y + sum_i weights_i u_i [b, N]."""
        return y + self.weighted(weights, us)

    def weighted(self, weights: Sequence[float], us: Sequence[Tensor]) -> Tensor:
        return torch.tensordot(self.row(weights), torch.stack(list(us[: len(weights)])), 1)


class BatchedNewtonMethod(BatchedImplicitMethod[Newton]):
    """A method whose stages Newton's iteration finds; a new state makes the Jacobian an old one."""

    def accept(self, step: SampleStep, state: Newton, accepted: Tensor) -> None:
        state.fresh = state.fresh & ~accepted

    def restart(self, state: Newton, at: Tensor) -> None:
        state.fresh = state.fresh & ~at


def steady(factor: Tensor, ratio: Tensor) -> Tensor:
    """The factor on h [b], 1 for an accepted step if it is nearly that; see ``implicit.steady``."""
    low, high = STEADY
    return torch.where((ratio <= 1) & (factor > low) & (factor < high), 1.0, factor)


def column(h: Tensor, y: Tensor) -> Tensor:
    """h [b] as a factor on y [b, N]."""
    return h.to(y.dtype).unsqueeze(1)
