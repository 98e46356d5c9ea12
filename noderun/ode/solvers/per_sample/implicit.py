"""What all implicit methods share where every sample of a batch has a step size of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.per_sample.newton import NewtonState
from noderun.ode.solvers.per_sample.step import BatchedMethod, BatchedState, SampleStep


class BatchedImplicitMethod(BatchedMethod):
    """A method whose stages are solved for."""

    def factors(self, ratio: Tensor, errors: Tensor, step: SampleStep, state: BatchedState) -> Tensor:
        return steady(super().factors(ratio, errors, step, state), ratio)

    def accept(self, step: SampleStep, state: BatchedState, accepted: Tensor) -> None:
        if isinstance(state, NewtonState):
            state.fresh = state.fresh & ~accepted

    def restart(self, state: BatchedState, at: Tensor) -> None:
        if isinstance(state, NewtonState):
            state.fresh = state.fresh & ~at

    def plus(self, y: Tensor, weights: Sequence[float], us: Sequence[Tensor]) -> Tensor:
        """y + sum_i weights_i u_i [b, N]."""
        return y + self.weighted(weights, us)

    def weighted(self, weights: Sequence[float], us: Sequence[Tensor]) -> Tensor:
        return torch.tensordot(self.row(weights), torch.stack(list(us[: len(weights)])), 1)


def steady(factor: Tensor, ratio: Tensor) -> Tensor:
    """The factor on h, or 1 for an accepted step: a small change is not worth new LU factors; HW II, IV.8."""
    return torch.where((ratio <= 1) & (factor > 0.9) & (factor < 1.2), 1.0, factor)


def column(h: Tensor, y: Tensor) -> Tensor:
    """h [b] as a factor on y [b, N]."""
    return h.to(y.dtype).unsqueeze(1)
