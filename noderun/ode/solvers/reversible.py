"""Methods whose step can be undone exactly, because they carry more than the state from step to step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.field import Field, Integrand
from noderun.ode.solvers.method import Info, Method, Snapshot, Step
from noderun.ode.solvers.times import stage_times


class Carry:
    """Carried from step to step besides y: ``aux``, None before the first step, and f at its start."""

    def __init__(self) -> None:
        self.recording = torch.is_grad_enabled()
        self.aux: list[Tensor] | None = None
        self.next: list[Tensor] | None = None  # at the end of the current step
        self.slope: Tensor | None = None  # f(t, y) as long as there is no aux
        self.integrand: Integrand | None = None  # at the point where aux was evaluated last
        self.next_integrand: Integrand | None = None
        self.curvature: Tensor | None = None  # half the change of y' over the current step, whose size is h
        self.h = 0.0
        self.before: tuple[Tensor, float] | None = None  # the same of the accepted step before it, on the same track
        self.off_track = False  # whether the track is to start anew


class Reversible(Method[Carry]):
    """``reverse`` goes from a step's end to its start; of order 2, with Euler's as the embedded solution."""

    multistep = True
    order, error_order = 2, 1

    def __init__(self, name: str, source: str, description: str) -> None:
        self.name = name
        self.info = Info(order=2, adaptive=True, reversible=True, source=source, description=description)

    @abstractmethod
    def initial(self, y: Tensor, slope: Tensor) -> list[Tensor]:
        """aux at the start, from f(t, y)."""

    @abstractmethod
    def reverse(self, field: Field, t: float, h: float, y1: Tensor, aux1: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """(y, aux) at t from those at t + h, by one call of f."""

    def start(self, y: Tensor) -> Carry:
        return Carry()

    def derivative(self, field: Field, t: float, y: Tensor, work: Carry) -> Tensor:
        if work.aux is not None:
            return evaluate(field, t, y, False)
        if work.slope is None:
            work.slope = evaluate(field, t, y)
            work.integrand = field.integrand
        return work.slope

    def ratio(self, work: Carry, control: StepOptions, step: Step) -> float:
        """The ratio of the distance from Euler's step; if most of that is an oscillation, the track starts anew.

        A track that has left the solution changes sides at every step, and smaller steps do not bring it back. Half the
        difference of successive changes of y', which is of higher order on a smooth track, tells how far away it is.
        """
        assert step.error is not None and work.curvature is not None
        work.h = step.h
        if work.before is None:
            return super().ratio(work, control, step)
        curvature, h = work.before
        oscillation = (work.curvature - curvature * (step.h / h)) * (step.h / 2)
        error, distance = control.ratios(torch.stack([step.error, oscillation]), step.y.detach(), step.y1.detach())
        work.off_track = distance > max(0.1, 0.5 * error)
        return error

    def auxiliary(self, field: Field, t: float, y: Tensor, work: Carry) -> list[Tensor]:
        """aux at the step's start."""
        return work.aux if work.aux is not None else self.initial(y, self.derivative(field, t, y, work))

    def snapshot(self, work: Carry) -> Snapshot:
        return list(work.aux or ()), None

    def restore(self, y: Tensor, snapshot: Snapshot, newton_stages: Sequence[Tensor] = ()) -> Carry:
        work = self.start(y)
        work.aux = list(snapshot[0]) if snapshot is not None and snapshot[0] else None
        return work

    def accept(self, work: Carry) -> None:
        if work.off_track:
            self.restart(work)
            return
        work.aux, work.integrand, work.slope = work.next, work.next_integrand, None
        work.before = None if work.curvature is None else (work.curvature, work.h)

    def restart(self, work: Carry) -> None:
        work.aux = work.slope = work.before = None
        work.off_track = False


def evaluate(field: Field, t: float, y: Tensor, in_quadrature: bool = True) -> Tensor:
    return field(stage_times(t, 0.0, (0.0,), y, field.bounds)[0], y, in_quadrature)


def parabola(t: float, h: float, y: Tensor, y1: Tensor, first: Tensor, curvature: Tensor, work: Carry | None) -> Step:
    """The step with y + theta h first + theta^2 h curvature in between.

    h curvature is also the distance from Euler's step, its error, which is noted in ``work`` if it is wanted.
    """

    def interpolate(thetas: Sequence[float]) -> Tensor:
        return torch.stack([torch.add(torch.add(y, first, alpha=x * h), curvature, alpha=x * x * h) for x in thetas])

    if work is None:
        return Step(t, h, y, y1, None, interpolate)
    work.curvature = curvature.detach()
    return Step(t, h, y, y1, work.curvature * h, interpolate)
