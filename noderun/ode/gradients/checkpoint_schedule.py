"""Which states to hold if not all can be held: an online schedule while the solve runs, then revolve between them.

Online (the number of steps is unknown): Wang, Moin, Iaccarino 2009, "Minimal repetition dynamic checkpointing", which
reaches the repetition of Stumm, Walther 2010. Offline, between two held states: revolve; Griewank, Walther 2008, 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from noderun.ode.gradients.discrete_adjoint import StepState

Advance = Callable[[int, int, StepState], StepState]  # the state at step ``end`` from that at step ``start``


@dataclass(frozen=True)
class Checkpoint:
    index: int  # of the step that starts from it
    level: float
    state: StepState


class Checkpoints:
    """At most ``limit`` of the states offered, always with the first; all of them if the limit is None."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.held: list[Checkpoint] = []

    def offer(self, index: int, state: StepState) -> None:
        level = 0.0 if self.held else math.inf
        if len(self.held) == self.limit:
            if self.limit == 1:
                return
            spare = self.dispensable()
            # If none is dispensable, the newest is replaced by one of a higher level: all below become dispensable.
            level = self.held.pop().level + 1 if spare is None else 0.0 * self.held.pop(spare).level
        self.held.append(Checkpoint(index, level, state))

    def dispensable(self) -> int | None:
        """The position of the last state held that is followed by one of a higher level."""
        highest = -1.0
        for position in reversed(range(len(self.held))):
            if self.held[position].level < highest:
                return position
            highest = max(highest, self.held[position].level)
        return None


def last_to_first(checkpoints: Checkpoints, count: int, advance: Advance) -> Iterator[tuple[int, StepState]]:
    """(n, state at the start of step n) for n = count - 1, ..., 0, with at most the limit of states held at a time."""
    held, end = checkpoints.held, count
    while held:
        free = 0 if checkpoints.limit is None else checkpoints.limit - len(held)
        checkpoint = held.pop()
        yield from revolve(checkpoint.index, end, free + 1, checkpoint.state, advance)
        end = checkpoint.index


def revolve(start: int, end: int, slots: int, state: StepState, advance: Advance) -> Iterator[tuple[int, StepState]]:
    """``last_to_first`` for the steps start..end - 1 with room for ``slots`` states, including that at ``start``."""
    while end - start > 1:
        middle = start + split(end - start, slots)
        yield from revolve(middle, end, max(slots - 1, 1), advance(start, middle, state), advance)
        end = middle
    yield start, state


def split(count: int, slots: int) -> int:
    """How many of ``count`` steps to advance before the next state is held: revolve's optimum.

    With s slots and at most r repetitions of a step, binomial(s + r, s) steps can be reversed.
    """
    r = 1
    while math.comb(slots + r, slots) < count:
        r += 1
    return max(1, min(math.comb(slots + r - 1, slots), count - math.comb(slots + r - 2, slots - 1)))
