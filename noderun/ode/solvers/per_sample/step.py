"""One step of many samples, each with its own step size: the base of all methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.per_sample.batch import BatchRows, factors
from noderun.ode.solvers.per_sample.field import BatchedField

SHORT = 16  # rows of fewer components are too short for the inner loop of an operation that broadcasts along them


def as_column(x: Tensor, like: Tensor) -> Tensor:
    """x [b] broadcastable to ``like`` [b, N], of the same shape if rows are short."""
    column = x.unsqueeze(1)
    return column.expand_as(like).contiguous() if like.shape[1] < SHORT else column


@dataclass(frozen=True)
class StepStart:
    """The start of an attempt of many samples, and its size."""

    field: BatchedField
    t: Tensor  # [b]
    y: Tensor  # [b, N]
    h: Tensor  # [b]
    slope: Tensor | None = None  # f(t, y) if it is known

    def times(self, c: Tensor) -> tuple[Tensor, ...]:
        """t + c_i h [b] for c [s, 1] in double precision, as f may see them."""
        return self.field.within(torch.addcmul(self.t, c, self.h)).unbind()


def dense_weights(dense: Tensor, theta: Tensor) -> Tensor:
    """The weights [stages, n] of the u_i in y(t + theta h), for theta [n] and the polynomials ``dense``."""
    return dense @ theta.expand(dense.shape[1], -1).cumprod(0)


class SampleStep:
    """An attempt of many samples: from (t [b], y [b, N]) by h [b] to y1 = y + sum_i b_i u_i with u_i = h k_i [b, N].

    ``dense`` [stages, powers of theta] are the polynomials by which the u_i enter y(t + theta h).
    """

    def __init__(self, start: StepStart, dense: Tensor) -> None:
        self.field, self.t, self.y, self.h, self.dense = start.field, start.t, start.y, start.h, dense
        self.slope = start.slope  # f at the start, once it is known
        self.y1 = start.y
        self.us: list[Tensor] = []
        self.errors: tuple[Tensor, ...] = ()  # estimates [b, N]
        self.failed: Tensor | None = None  # [b] whether Newton's iteration diverged
        self.newton_stages: tuple[Tensor, ...] = ()  # [b, ...] what was found by iteration, for a replay
        self.calls = 0  # of f, by every sample
        self.end: Tensor | None = None  # f at the end, if a stage is that

    def increments(self) -> Tensor:
        """All u_i that ``dense`` weighs [s, b, N]."""
        return torch.stack(self.us)

    def between(self, place: Tensor, theta: Tensor) -> Tensor:
        """y(t + theta h) [n, N] of the samples at ``place`` [n], y1 itself at theta = 1."""
        weights = dense_weights(self.dense, theta).to(self.y.dtype).unsqueeze(2)
        inside = self.y[place] + (weights * self.increments()[:, place]).sum(0)
        return torch.where((theta == 1).unsqueeze(1), self.y1[place], inside)


@dataclass
class BatchedState(BatchRows):
    """Carried along for each sample besides its state."""

    calls: Tensor  # of f, if their number is a sample's own
    jacobians: Tensor

    @classmethod
    def counted(cls, y: Tensor) -> Self:
        """Of a method that keeps nothing else."""
        zeros = torch.zeros(y.shape[0], dtype=torch.long, device=y.device)
        return cls(zeros, zeros)


State = TypeVar("State", bound=BatchedState)


class BatchedMethod(ABC, Generic[State]):
    """A method on a device that steps many samples at once; ``Method`` is its counterpart for one solution."""

    history = False  # whether its step size control looks at earlier error ratios whatever the controller

    def __init__(self, order: int, dense: Sequence[Sequence[float]], control: StepOptions, like: Tensor) -> None:
        self.order, self.control, self.like = order, control, like
        self.dense = torch.tensor(dense, dtype=torch.float64, device=like.device)

    def row(self, weights: Sequence[float]) -> Tensor:
        return torch.tensor(weights, dtype=self.like.dtype, device=self.like.device)

    def column(self, c: Sequence[float]) -> Tensor:
        """Nodes [s, 1] in double precision."""
        return torch.tensor(c, dtype=torch.float64, device=self.like.device).unsqueeze(1)

    @abstractmethod
    def start(self, y: Tensor) -> State:
        """What the samples y [b, N] carry from step to step, at the start."""

    @abstractmethod
    def step(self, start: StepStart, state: State, estimate: bool) -> SampleStep:
        """Attempt a step, with ``estimate`` also its error."""

    @abstractmethod
    def replay(self, start: StepStart, solved: Sequence[Tensor]) -> SampleStep:
        """The same step under autograd, from what it found by iteration."""

    def factors(self, ratio: Tensor, errors: Tensor, step: SampleStep, state: State) -> Tensor:
        """The factor on h [b], before its upper limit."""
        return factors(self.control.controller, ratio, errors, self.order)

    def accept(self, step: SampleStep, state: State, accepted: Tensor) -> None:  # noqa: B027  (few have a past)
        """The accepted steps become the past."""

    def restart(self, state: State, at: Tensor) -> None:  # noqa: B027
        """The samples ``at`` [b] crossed a jump of f: forget what was known of them."""
