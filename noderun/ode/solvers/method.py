"""What every method offers: facts about itself, and one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions, first_step
from noderun.ode.solvers.field import Field, Integrand
from noderun.ode.solvers.step_size import AFTER_REJECTION
from noderun.ode.solvers.times import stage_times

Snapshot = tuple[list[Tensor], Any] | None
Work = TypeVar("Work")  # the work space of a solve


@dataclass(frozen=True)
class Info:
    """Facts about a solver as ``noderun list solver`` shows them; order None means variable."""

    order: int | None = None
    adaptive: bool = False  # it has an error estimate
    fixed_step: bool = True  # it takes steps of a given size
    implicit: bool = False
    reversible: bool = False
    symplectic: bool = False
    source: str = ""
    description: str = ""


@dataclass
class Quadrature:
    """sum_i w_i g_i [P] over one step, and sum_i e_i g_i as the estimate of its error; w_i and e_i include h."""

    integrands: list[Integrand]
    weights: list[Any]  # numbers, or tensors [] of the device
    errors: list[Any]  # empty if the error is not estimated

    @staticmethod
    def of(
        integrands: Sequence[Integrand | None], weights: Sequence[float], errors: Sequence[float], h: Any
    ) -> Quadrature | None:
        """By a formula on [0, 1], whose nodes without weight need no integrand; None if nothing is integrated."""
        rows = zip(integrands, weights, errors or [0.0] * len(weights), strict=False)  # dense output's stages follow
        used = [(g, h * w, h * e) for g, w, e in rows if g is not None and (w != 0 or e != 0)]
        if not used:
            return None
        values, ws, es = (list(column) for column in zip(*used, strict=True))
        return Quadrature(values, ws, es if errors else [])

    def sums(self) -> Tensor:
        """[2, P], or [1, P] without an estimate of the error."""
        rows = [self.weights, self.errors] if self.errors else [self.weights]
        values = torch.stack(self.integrands)
        if isinstance(rows[0][0], Tensor):  # h is on the device
            return torch.stack([torch.stack(row) for row in rows]).to(values.dtype) @ values
        return torch.tensor(rows, dtype=values.dtype).to(values.device, non_blocking=True) @ values


@dataclass
class Step:
    """An attempted step from (t, y) by h: the new state, its error estimate, and y in between."""

    t: float
    h: float
    y: Tensor  # [N] at t
    y1: Tensor  # [N] at t + h
    error: Tensor | None  # [N], or rows of estimates [m, N]; detached; None if none was wanted
    interpolate: Callable[[Sequence[float]], Tensor]  # theta in (0, 1), n of them -> [n, N]
    quadrature: Quadrature | None = None  # of what is integrated beside the state
    newton_stages: list[Tensor] = field(default_factory=list)  # found by iteration; never written to again


class Method(ABC, Generic[Work]):
    """One way to advance y' = f(t, y) by one step.

    A method holds no state: what a solve carries from step to step is its ``work``, of a class of the method's own.
    A subclass sets ``name``, ``info``, ``order`` and ``error_order`` and defines the abstract methods.
    """

    name: str
    info: Info
    order: int
    error_order: int  # order of the embedded solution whose distance is the error estimate
    multistep = False  # whether a step depends on earlier steps, so that after a jump it has to begin small again
    uses_newton = False  # whether adaptive steps solve equations by iteration, to a tolerance
    internal_stepping = False  # whether it takes steps of its own choice within the one that it is given
    compiles = False  # whether steps are compiled graphs

    @property
    def uncompiled(self) -> Method[Any]:
        """This method without compiled steps, for fields of which no graph is made."""
        return self

    def with_options(self, **options: Any) -> Method[Any]:
        """This method with its own options (an order, another method); ValueError for an option that it lacks."""
        if options:
            raise ValueError(f"solver '{self.name}' has no option '{next(iter(options))}'; it takes none")
        return self

    def with_tolerances(self, control: StepOptions) -> Self:
        """This method with a solve's tolerances, if its steps depend on them (Newton's iteration, choice of order)."""
        return self

    def ratio(self, work: Work, control: StepOptions, step: Step) -> float:
        """The step's error in units of the tolerance, from all parts of the estimate."""
        assert step.error is not None
        return control.ratio(step.error, step.y.detach(), step.y1.detach())

    def factor(self, work: Work, control: StepOptions, errors: tuple[float, float, float], retried: bool) -> float:
        """The factor on h after a step with error ratio errors[0], rejected if above 1: the controller's by default."""
        factor = control.controller.factor(errors, self.error_order)
        return min(factor, AFTER_REJECTION) if retried else factor

    @abstractmethod
    def start(self, y: Tensor) -> Work:
        """The work space of one solve: buffers, history, and what is already known at the current state."""

    @abstractmethod
    def derivative(self, field: Field, t: float, y: Tensor, work: Work) -> Tensor:
        """f(t, y) [N], kept in ``work`` so that the first step does not evaluate it again."""

    def first_size(self, field: Field, control: StepOptions, t: float, y: Tensor, span: float, work: Work) -> float:
        """A first step size, signed like ``span``."""
        with torch.set_grad_enabled(getattr(work, "recording", False)):
            slope = self.derivative(field, t, y, work)

        def evaluate(t: float, y: Tensor) -> Tensor:
            return field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y, False)

        with torch.no_grad():
            return first_step(control, evaluate, t, y.detach(), slope.detach(), span, self.error_order)

    @abstractmethod
    def step(self, field: Field, t: float, y: Tensor, h: float, work: Work, estimate: bool) -> Step:
        """Attempt a step by h (signed); with ``estimate`` also its error."""

    def snapshot(self, work: Work) -> Snapshot:
        """(tensors, constants) of earlier steps that the next step depends on; None for one-step methods.

        A step is replayed from y and this alone, so what the tensors are functions of stays differentiable: they are
        never written to again, and a rejected attempt may change the constants but not the tensors.
        """
        return None

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> Work:
        """The work space that ``snapshot`` was taken from, to go on from y.

        With the ``newton_stages`` of a step the next one takes these instead of iterating, so that a replay makes the
        same y1 to round-off.
        """
        return self.start(y)

    @abstractmethod
    def accept(self, work: Work) -> None:
        """The step just made becomes the past."""

    @abstractmethod
    def restart(self, work: Work) -> None:
        """The state jumped: forget what was known about it."""
