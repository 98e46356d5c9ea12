"""Explicit Runge-Kutta methods whose attempts are graphs: compiled ones, and those that a GPU captures and replays."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, VectorField
from noderun.ode.solvers.method import Step
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta

Integrands = tuple[Tensor, ...]  # of integrals beside the state, at one point
Known = tuple[Tensor, Integrands] | None  # f at a point [N] and the integrands there, if they were evaluated
PulledBack = tuple[Tensor, ...]  # dL/dy [N] at the start of the first step, then dL/dtheta

# y and f(t, y) [N] after the last attempt; the record of each attempt [K, rows, N]; the number of attempts, the step
# size to try next, and for each attempt h, h as it was cut and the error ratio (2 + 3 K numbers); the integrands beside
# the state at the end, and their integrals
LoopResult = tuple[Tensor, Tensor, Tensor, list[float], Integrands, Integrands]

FixedResult = tuple[Tensor, Tensor, Integrands]  # y [N] after the last step, the record of each, the integrals

MOST_ATTEMPTS = 64  # recorded between two looks of the host
MOST_NUMBERS = 2**26  # of the states and stages in such a record


def room_for(size: int, rows: int) -> int:
    """The number of attempts of a state [size], each leaving ``rows`` vectors, between two looks of the host."""
    return max(1, min(MOST_ATTEMPTS, MOST_NUMBERS // max(size * rows, 1)))


@dataclass
class Start:
    """Where many steps begin: y [N] and, so far, the integrals beside it (``totals``).

    ``rows``: how many vectors [N] each step leaves; ``controlled``: whether the error of the integrals counts;
    ``params``: the tensors by which the adjoint's f is differentiated, by name.
    """

    field: VectorField
    control: StepOptions
    y: Tensor
    rows: int
    controlled: bool
    totals: Integrands
    params: Mapping[str, Tensor]


class Graphs(Protocol):
    """The graphs of one f and one layout of the state, or of its adjoint.

    ``examined`` says whether f was found to depend on no tensor that a solve to be differentiated does not know of,
    ``steps_per_backward`` how many steps one call pulls back, by whether outputs lie inside the steps.
    """

    examined: bool
    steps_per_backward: dict[bool, int]

    def run_loop(self, start: Start, numbers: Sequence[float], known: Known, choose: bool) -> LoopResult | None:
        """Attempts by the ``numbers`` of ``device_control``; None if steps are made one by one.

        ``choose``: whether the first step size is to be chosen.
        """

    def run_fixed(self, start: Start, moves: Sequence[tuple[float, float]]) -> FixedResult | None:
        """Steps (t, h) of given sizes; None if they are made one by one."""

    def pull_back(
        self,
        field: VectorField,
        control: StepOptions,
        moves: Sequence[tuple[float, float]],
        starts: Sequence[Tensor],
        a: Tensor,
        cotangents: Tensor | None,
        params: Mapping[str, Tensor],
    ) -> PulledBack | None:
        """dL/dy and dL/dtheta of steps (t, h) from their ``starts`` [N]; None if autograd has to."""


class GraphedRungeKutta(ExplicitRungeKutta):
    """The same method with graphs for each f, layout of the state and autocast state."""

    compiles = True
    control: StepOptions | None = None

    def __init__(self, eager: ExplicitRungeKutta) -> None:
        super().__init__(eager.name, eager.tableau, eager.info.source, eager.info.description)
        self.original, self.error_order = eager, eager.error_order

    @property
    def uncompiled(self) -> ExplicitRungeKutta:
        return self.original

    def with_tolerances(self, control: StepOptions) -> Self:
        method = copy.copy(self)
        method.control = control
        return method

    def ratio(self, work: Any, control: StepOptions, step: Step) -> float:
        return self.original.ratio(work, control, step)

    @abstractmethod
    def graphs(self, field: Field, y: Tensor, adjoint: Any = None) -> Graphs | None:
        """The graphs of a field, or of its adjoint; None if steps are eager."""

    def sample_graphs(self, problem: Any) -> Any:
        """The same for samples with steps of their own."""
        return None

    def graphs_to_differentiate(self, field: VectorField, y: Tensor) -> Graphs | None:
        """The same of a solve that is to be differentiated."""
        return self.graphs(field, y)
