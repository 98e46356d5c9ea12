"""The discrete adjoint from checkpoints: each accepted step is repeated from its state, last to first.

Zhuang et al. 2020; Griewank, Walther 2008, chapter 12.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noderun.ode.gradients import per_sample_discrete
from noderun.ode.gradients.checkpoint_schedule import Checkpoint, Checkpoints, last_to_first
from noderun.ode.gradients.discrete_adjoint import DiscreteAdjoint, StepRecord, StepState
from noderun.ode.gradients.gradient import CustomBackward
from noderun.ode.gradients.parameters import backward_field
from noderun.ode.gradients.solve_function import Gradients, Recorded
from noderun.ode.gradients.stagewise import StagewiseAdjoint, has_stages
from noderun.ode.solvers.field import VectorField
from noderun.ode.solvers.graphed import GraphedRungeKutta
from noderun.ode.solvers.integrate import AcceptedStep, Problem, integrate
from noderun.ode.solvers.method import Method
from noderun.ode.solvers.per_sample.problem import SampleProblem


@dataclass(frozen=True)
class ReplayedSteps(CustomBackward):
    """What ``Checkpointed`` and ``Symplectic`` share: the states that are held and the loop over the steps."""

    checkpoints: int | None = None

    def __post_init__(self) -> None:
        if self.checkpoints is not None and self.checkpoints < 1:
            raise ValueError(f"checkpoints is {self.checkpoints}; it is a number of states from 1, or None for all")

    @abstractmethod
    def adjoint_class(self, method: Method) -> type[DiscreteAdjoint]:
        """How a step of the method is pulled back."""

    def record(self, problem: Problem) -> Recorded:
        if self.checkpoints is not None and problem.method.uses_newton and not problem.control.fixed:
            raise ValueError(
                f"the option checkpoints repeats steps, and solver '{problem.method.name}' finds adaptive ones only to "
                "a tolerance, by iteration: leave it out, or give dt="
            )
        records: list[StepRecord] = []
        checkpoints, fixed = Checkpoints(self.checkpoints), problem.control.fixed

        def observe(taken: AcceptedStep) -> None:
            checkpoints.offer(len(records), StepState.of(taken, first=not records, fixed=fixed))
            records.append(StepRecord.of(taken))

        ys = integrate(problem, observe)
        places, tensors = flattened(checkpoints)
        return problem.shaped(ys), (ys, *problem.params, *tensors), (records, places)

    def pull_back(self, problem: Problem, saved: list[Tensor], kept: Any, ys_grad: Tensor) -> Gradients:
        (ys, *tensors), (records, places) = saved, kept
        checkpoints, cotangents = Checkpoints(self.checkpoints), problem.flat(ys_grad)
        checkpoints.held = rebuilt(places, tensors[len(problem.params) :], records)
        with backward_field(problem) as field:
            adjoint = self.adjoint_class(problem.method)(self.name, problem, field, ys, cotangents)

            def advance(start: int, end: int, state: StepState) -> StepState:
                return repeated(adjoint, field, records[start : end + 1], state)

            states = last_to_first(checkpoints, len(records), advance)
            steps = ((records[n], state, records[n - 1] if n else None) for n, state in states)
            # Few checkpoints are there to save memory: their states are then made and used one at a time.
            adjoint.pull_back(steps, 1 if self.checkpoints else None)
        return adjoint.adjoint + cotangents[0], adjoint.param_grads


@dataclass(frozen=True)
class Checkpointed(ReplayedSteps):
    """The exact gradient of the discrete solve from the states at the accepted steps.

    Each accepted step is repeated under autograd from its stored state, last to first, so only one step's graph is
    alive at a time. It is the library's default, because

    - the gradient is that of the numbers the forward solve returned, to round-off, whatever the tolerance: descent
      sees its own loss, and there is no second tolerance to choose;
    - it holds one state per step (of multistep methods with their history) instead of all activations of f;
    - it costs one more evaluation of f per stage than ``Backprop``, and never more, stiff problems included.

    ``checkpoints`` is how many states are held, from 1; None holds the state of every accepted step. Fewer states cost
    repeated forward steps (docs/gradients.md has the numbers).
    """

    name = "checkpointed"
    exact = True
    memory = "one state per accepted step, or `checkpoints` states"
    source = "Zhuang et al. 2020; Griewank, Walther 2008; Wang, Moin, Iaccarino 2009 (online schedule)"
    description = "each accepted step repeated under autograd; exact at a fraction of backprop's memory"

    def adjoint_class(self, method: Method) -> type[DiscreteAdjoint]:
        if isinstance(method, GraphedRungeKutta):
            from noderun.ode.gradients.compiled import CapturedDiscreteAdjoint, GraphedDiscreteAdjoint

            return CapturedDiscreteAdjoint if has_stages(method) else GraphedDiscreteAdjoint
        return StagewiseAdjoint if has_stages(method) else DiscreteAdjoint

    def solve_per_sample(self, problem: SampleProblem) -> Tensor:
        return per_sample_discrete.checkpointed(problem)

    def refusal_per_sample(self) -> str | None:
        if self.checkpoints is None:
            return None
        return "per_sample=True takes gradient 'checkpointed' without the option checkpoints"


def repeated(
    adjoint: DiscreteAdjoint, field: VectorField, records: Sequence[StepRecord], state: StepState
) -> StepState:
    """The state at the start of the last of the steps from that at the start of the first, without a graph."""
    method = adjoint.method
    for record, following in zip(records, records[1:], strict=False):
        work = method.restore(state.y, state.past)
        y1 = method.step(field, record.t, state.y, record.h, work, estimate=False).y1
        method.accept(work)
        past = method.snapshot(work)
        state = StepState(y1, past and (past[0][: following.count], following.constants), [])
    return state


Place = tuple[int, int, int]  # index of the step, number of tensors of the past, number of those found by iteration


def flattened(checkpoints: Checkpoints) -> tuple[list[Place], list[Tensor]]:
    """The held states as tensors alone, which autograd can save."""
    places: list[Place] = []
    tensors: list[Tensor] = []
    for checkpoint in checkpoints.held:
        state = checkpoint.state
        past = state.past[0] if state.past else []
        places.append((checkpoint.index, len(past), len(state.solved)))
        tensors.extend((state.y, *past, *state.solved))
    return places, tensors


def rebuilt(places: list[Place], tensors: list[Tensor], records: list[StepRecord]) -> list[Checkpoint]:
    """The inverse of ``flattened``."""
    held, left = [], iter(tensors)
    for index, past, solved in places:
        y, *rest = (next(left) for _ in range(1 + past + solved))
        snapshot = (rest[:past], records[index].constants) if index else None
        held.append(Checkpoint(index, 0.0, StepState(y, snapshot, rest[past:])))
    return held
