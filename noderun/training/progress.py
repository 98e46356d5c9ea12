"""The state of a run apart from its weights, optimizer, generators and callbacks."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from noderun.config.schema import Trainer
from noderun.training.meters import Number, RunningMeans, quotient

SKIPS = 10  # in a row: the weights are to blame then, and not a batch
TESTS = 10  # in a budget of seconds
EXPLODED = 1e6  # times the first loss: no training comes back from there
log = logging.getLogger(__name__)


class Diverged(ValueError):
    """A loss that is not a number, or that has exploded."""


def advice(updates: int) -> str:
    """What to try if training failed after so many updates; before the first, the learning rate is not to blame."""
    return "try a smaller optimizer.lr" if updates else "look at the scale of the data and of the first weights"


@dataclass(frozen=True)
class Budget:
    """The end of a run: a number of optimizer steps, or seconds of training (tests not counted)."""

    steps: int = sys.maxsize
    seconds: float = math.inf

    def spent(self, progress: Progress) -> bool:
        return progress.stopped or progress.step >= self.steps or progress.training_seconds >= self.seconds

    def test_due(self, progress: Progress) -> bool:
        """Each epoch ends in a test; a budget of seconds, in which there may be thousands, holds TESTS of them."""
        since = progress.training_seconds - progress.tested_at
        return self.spent(progress) or math.isinf(self.seconds) or since >= self.seconds / TESTS

    def position(self, progress: Progress, horizon: int | None) -> int:
        """The step at which a schedule stands whose end is ``horizon`` steps away from its start.

        In a budget of seconds, whose steps nobody knows beforehand, the schedule spans the budget.
        """
        if horizon is None or math.isinf(self.seconds):
            return progress.step
        return int(horizon * progress.training_seconds / self.seconds)


def make_budget(trainer: Trainer, steps_per_epoch: int) -> Budget:
    seconds = math.inf if trainer.max_seconds is None else trainer.max_seconds
    steps = sys.maxsize if trainer.max_seconds is not None else trainer.epochs * steps_per_epoch
    return Budget(steps if trainer.max_steps is None else min(steps, trainer.max_steps), seconds)


@dataclass
class Progress:
    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs finished
    batch: int = 0  # batches done of the epoch under way
    tested: int = -1  # step of the last evaluation
    tested_at: float = 0.0  # its second of training
    examples: int = 0
    training_seconds: float = 0.0
    test_seconds: float = 0.0
    peak_mib: float = 0.0
    first_loss: float | None = None
    skipped: int = 0  # steps since the last one whose loss and gradient were finite
    restores: int = 0  # of the last checkpoint, each at half the learning rate
    stopped: bool = False  # early: validation has not been better for as long as trainer.patience
    window: RunningMeans = field(default_factory=RunningMeans)  # since the last row
    means: RunningMeans = field(default_factory=RunningMeans)  # from the epoch's first batch to the last row
    test: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)  # the test of the weights that were best in validation
    measured: dict[str, float | None] = field(default_factory=dict)  # by callbacks, the last of each tag

    def __post_init__(self) -> None:
        self._unchecked: list[Tensor] = []  # losses wait as they are, so that no step waits for its device

    @property
    def in_epoch(self) -> int:
        """The number, from 1, of the epoch under way, or of the last one between two."""
        return self.epoch + (self.batch > 0)

    @property
    def solves(self) -> bool:
        """Whether the training steps of this epoch solve an ODE."""
        return "nfe/forward" in self.window or "nfe/forward" in self.means

    def begin_epoch(self) -> None:
        if self.batch == 0:
            self.means = RunningMeans()

    def advance(self, numbers: Mapping[str, Number | None], examples: int, seconds: float) -> None:
        self.window.add({**numbers, "examples": examples, "seconds": seconds})
        loss = numbers["loss/train"]
        assert isinstance(loss, Tensor)
        self._unchecked.append(loss.detach())
        self.skipped = 0
        self.examples += examples
        self._count(seconds)

    def skip(self, seconds: float) -> None:
        """Count a step that changed nothing because its loss or gradient is not finite; Diverged after too many."""
        self._count(seconds)
        self.skipped += 1
        where = f"epoch {self.in_epoch}, step {self.step}"
        if self.skipped == SKIPS:
            raise Diverged(f"{SKIPS} steps in a row were not finite up to {where}: {advice(self.step - SKIPS)}")
        log.warning("the loss or its gradient is not finite in %s, which is skipped", where)

    def _count(self, seconds: float) -> None:
        self.step += 1
        self.batch += 1
        self.training_seconds += seconds

    def next_epoch(self, steps_per_epoch: int) -> None:
        """Count the epoch if all of its batches are done."""
        if self.batch == steps_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0

    def count_test(self) -> None:
        self.tested, self.tested_at = self.step, self.training_seconds

    def check_losses(self) -> None:
        """Raises Diverged for the first loss since the last call that has exploded; waits for the device."""
        losses = torch.stack(self._unchecked).tolist() if self._unchecked else []
        self._unchecked = []
        for step, loss in enumerate(losses, start=self.step - len(losses) + 1):
            self.first_loss = loss if self.first_loss is None else self.first_loss
            self.check_loss(loss, f"the loss is {loss:.3g} in epoch {self.in_epoch}, step {step}", step - 1)

    def check_loss(self, loss: float, sentence: str, updates: int) -> None:
        if not abs(loss) <= EXPLODED * max(1.0, abs(self.first_loss or 0.0)) < math.inf:
            raise Diverged(f"{sentence}: {advice(updates)}")

    def take_window(self) -> dict[str, float | None]:
        """Returns the means since the last row, speed included, and starts afresh."""
        means = self.window.values()
        row: dict[str, float | None] = {**means}
        if means:
            seconds, examples = means["seconds"], means["examples"]
            row |= {"time/step_ms": 1000 * seconds, "time/examples_per_s": quotient(examples, seconds)}
            del row["seconds"], row["examples"]
        self.means.merge(self.window)
        self.window = RunningMeans()
        return row

    def state_dict(self) -> dict[str, Any]:
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {"window": self.window.state_dict(), "means": self.means.state_dict()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        means = {name: RunningMeans.from_state(state[name]) for name in ("window", "means")}
        return cls(**{**state, **means})
