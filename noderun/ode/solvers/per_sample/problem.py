"""The problem of a solve with a time per sample, and its results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.errors import NewtonDivergence, NonFiniteDynamics, SolveError, StepLimit, StepUnderflow
from noderun.ode.solvers.events import Event
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.per_sample.field import SampleField
from noderun.ode.solvers.per_sample.step import SampleStep
from noderun.ode.solvers.per_sample.times import along, sample_bounds

RUNNING, DONE, EVENT, NONFINITE, UNDERFLOW, LIMIT, NEWTON, EVENT_NAN = range(8)
STATUS = ("running", "done", "event", "nonfinite", "underflow", "step_limit", "newton", "nonfinite")
FAILURES: dict[int, tuple[type[SolveError], str]] = {
    NONFINITE: (NonFiniteDynamics, "f returned NaN or infinity"),
    UNDERFLOW: (StepUnderflow, "the step size fell below the resolution of t: the tolerance cannot be met"),
    LIMIT: (StepLimit, "max_steps attempts did not reach the end"),
    NEWTON: (NewtonDivergence, "Newton's iteration diverged"),
    EVENT_NAN: (NonFiniteDynamics, "an event's function is NaN"),
}
FAILED = {STATUS[code] for code in FAILURES}


@dataclass(frozen=True)
class OutputRead:
    """Rows of the result from ``first``, read off the samples at ``place`` [n] of a step at theta [n], 1 its end."""

    first: int
    place: Tensor
    theta: Tensor
    inside: bool  # whether any theta is below 1

    def of(self, step: SampleStep) -> Tensor:
        return step.between(self.place, self.theta) if self.inside else step.y1[self.place]


@dataclass(frozen=True)
class RoundRecord:
    """Accepted steps of one round, enough to make them again, and what was read off them."""

    samples: Tensor | None  # [m]; None: the whole batch, with h = 0 for samples whose step was not accepted
    t: Tensor  # along the way
    h: Tensor
    y: Tensor
    reads: tuple[OutputRead, ...]
    newton_stages: tuple[Tensor, ...]  # what the steps found by iteration

    @property
    def inside(self) -> bool:
        """Whether outputs lie inside the steps."""
        return any(read.inside for read in self.reads)


@dataclass
class SampleOutputIndex:
    """The meaning of the rows of the result; the first B are y0."""

    # first row, samples, columns of ts, whether at a step's end
    asked: list[tuple[int, Tensor, Tensor, Tensor]] = dataclasses.field(default_factory=list)
    events: list[tuple[int, Tensor, int, Tensor]] = dataclasses.field(default_factory=list)  # first, samples, which, t

    # first row, samples, t, h, rows of the states at t; the rows are those of all samples at the first fraction, then
    # at the second, and so on
    steps: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = dataclasses.field(default_factory=list)

    lost: dict[int, int] = dataclasses.field(default_factory=dict)  # sample -> which event was NaN

    def all_rows(self, problem: SampleProblem) -> tuple[Tensor, Tensor, Tensor]:
        """The sample, the time along its way and the index of every row, [n] each."""
        everyone = torch.arange(len(problem.y0), device=problem.ts.device)
        parts = [(everyone, problem.ts[:, 0], everyone)]
        fractions = [theta for theta in problem.fractions if theta > 0]
        for first, sample, t, h, _ in self.steps:
            time = torch.cat([t + theta * h for theta in fractions])
            parts.append((sample.repeat(len(fractions)), time, count_from(first, time)))
        for first, sample, column, _ in self.asked:
            parts.append((sample, problem.ts[sample, column], count_from(first, sample)))
        parts += [(sample, t, count_from(first, t)) for first, sample, _, t in self.events]
        sample, time, row = (torch.cat(part) for part in zip(*parts, strict=True))
        return sample, time, row

    def clear(self) -> None:
        self.steps.clear()
        self.asked.clear()
        self.events.clear()
        self.lost.clear()


def count_from(first: int, like: Tensor) -> Tensor:
    """Row numbers [n] from the first, as many as ``like`` [n] has elements."""
    return torch.arange(first, first + len(like), device=like.device)


@dataclass
class SampleStatistics:
    """The cost of each sample [B], its status and its last time; ``backward()`` fills ``nfe_backward``."""

    nfe_forward: Tensor
    accepted: Tensor
    rejected: Tensor
    jacobians: Tensor  # evaluations of df/dy; their calls of f are not in nfe_forward
    status: Tensor  # index into STATUS
    t: Tensor
    nfe_backward: Tensor | None = None

    @staticmethod
    def of(size: int, device: torch.device) -> SampleStatistics:
        zeros = torch.zeros(size, dtype=torch.long, device=device)
        return SampleStatistics(zeros, zeros.clone(), zeros.clone(), zeros.clone(), zeros + DONE, zeros.double())


@dataclass(frozen=True)
class SampleProblem:
    """An initial value problem per sample, each with its own times."""

    field: SampleField
    y0: Tensor  # [B, N]
    ts: Tensor  # [B, T] in double precision along each sample's way, rising
    method: Method
    control: StepOptions
    stats: SampleStatistics
    params: tuple[Tensor, ...] = ()
    events: Sequence[Event] = ()
    compact: bool = True
    backward: StepOptions = StepOptions()  # of a gradient that is itself a solve
    fractions: Sequence[float] = ()  # of every accepted step, at which y is wanted besides ts; the last is 1
    outputs: SampleOutputIndex = dataclasses.field(default_factory=SampleOutputIndex)

    def __post_init__(self) -> None:
        jumps = along(self.control.jumps, self.field.sign, self.ts)
        self.field.bounds = sample_bounds(self.ts, jumps, self.y0.dtype.to_real())
