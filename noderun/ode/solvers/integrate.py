"""One solve from the first to the last output time: the loop runs over steps, outputs are read off them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.errors import NonFiniteDynamics, SolveError
from noderun.ode.solvers.events import Event, EventDetector
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.loop_stepper import LoopStepper
from noderun.ode.solvers.method import Method, Snapshot, Step
from noderun.ode.solvers.outputs import OutputIndex, OutputRecorder
from noderun.ode.solvers.statistics import Statistics
from noderun.ode.solvers.stepper import Stepper
from noderun.ode.solvers.times import bounds_of
from noderun.ode.solvers.torch_internals import under_transform


@dataclass(frozen=True)
class Problem:
    """An initial value problem as every gradient method receives it: flat, with host times."""

    field: VectorField
    y0: Tensor  # [N]
    ts: Sequence[float]  # monotone, rising or falling
    method: Method[Any]
    control: StepOptions
    stats: Statistics
    params: tuple[Tensor, ...] = ()  # tensors that f depends on and that may require gradients
    named_params: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)  # of f's Module, as they are now
    adjoint_method: Method[Any] | None = None  # of a gradient that is itself a solve, if it uses another one
    backward: StepOptions = StepOptions()  # of a gradient that is itself a solve
    events: Sequence[Event] = ()
    fractions: Sequence[float] = ()  # of every accepted step, at which y is wanted besides ts
    stops: Sequence[float] = ()  # times on the way at which a step has to end, as y is not known inside steps
    outputs: OutputIndex = dataclasses.field(
        default_factory=OutputIndex
    )  # the meaning of each row of the result; filled by ``integrate``

    def __post_init__(self) -> None:
        self.field.bounds = bounds_of(self.ts, self.control.jumps, self.y0.dtype.to_real())

    def shaped(self, rows: Tensor) -> Tensor:
        """Rows [R, N] as the caller knows the state, if that is one tensor.

        They are then the caller's own object and not a view of it, so that Python's garbage collector can tell that a
        Module which keeps its solution holds nothing but itself.
        """
        layout = self.field.layout
        return rows.view(len(rows), *layout.shapes[0]) if layout.single and not layout.pairs else rows

    def flat(self, rows: Tensor) -> Tensor:
        """The same as [R, N] again."""
        return rows.reshape(len(rows), sum(self.field.layout.sizes))


@dataclass(frozen=True)
class AcceptedStep:
    """An accepted step, and the outputs that were read off it: (row of ys, theta); theta = 1 is its end."""

    step: Step
    t_end: float
    outputs: list[tuple[int, float]]
    past: Snapshot  # what the step started from besides y


def integrate(problem: Problem, observe: Callable[[AcceptedStep], None] | None = None, inside: bool = False) -> Tensor:
    """ys [rows, N], y0 first, the rows of ``problem.outputs``; with autograd on, differentiable through every step.

    ``inside``: whether ``observe`` looks inside the steps.
    """
    outputs = OutputRecorder(problem.ts, problem.fractions, problem.y0, problem.outputs)
    field, stats = problem.field, problem.stats
    stepper = stepper_of(problem, observe is not None, inside)
    watch = EventDetector(problem.events, field, problem.ts[0], problem.y0) if problem.events else None

    def on_step(step: Step, t_end: float) -> None:
        found, stepper.stopped = watch.inside(step, t_end) if watch is not None else ((), False)
        read = outputs.read(step, t_end, found, stepper.stopped)
        if observe is not None:
            observe(AcceptedStep(step, t_end, read, stepper.past))

    before, jacobians, factorizations = field.nfe, field.jacobians, field.factorizations
    try:
        for stop in (*problem.stops, problem.ts[-1]):
            stepper.advance(stop, on_step)
        if problem.control.fixed and not under_transform() and not torch.isfinite(stepper.y).all():
            raise stepper.failure(NonFiniteDynamics, "the solution became NaN or infinite")
        if math.isinf(stepper.t):
            raise stepper.failure(NonFiniteDynamics, "t became infinite before a terminal event happened")
    except SolveError as error:
        error.ys = outputs.stacked()
        raise
    finally:
        stats.nfe_forward += field.nfe - before
        stats.jacobians += field.jacobians - jacobians
        stats.factorizations += field.factorizations - factorizations
        stats.accepted += stepper.accepted
        stats.rejected += stepper.rejected
    return outputs.stacked()


def stepper_of(problem: Problem, observed: bool, inside: bool) -> Stepper:
    """A stepper at the start. Events are looked for after every step, so many are not made in one call then."""
    start = (problem.method, problem.field, problem.control, problem.ts[0], problem.y0)
    if not problem.method.compiles or problem.events:
        return Stepper(*start)
    inside = inside or len(problem.ts) > 2 or bool(problem.fractions)
    return LoopStepper(*start, starts=observed, inside=inside)
