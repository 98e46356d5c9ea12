"""Diagnostics: measurements of a trained model's solves that cost solves of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from noderun.config.schema import Settings
from noderun.data import Batch
from noderun.ode.gradients import GRADIENTS
from noderun.record.notice import announced
from noderun.training.block_pass import (
    BlockPass,
    forward_ms,
    gradient_error,
    numerical_error,
    passes,
    reconstruction_error,
    solve_bytes,
    stack_bytes,
)
from noderun.training.callbacks import Callback
from noderun.training.memory import MIB
from noderun.training.progress import Progress
from noderun.training.setup import Setup

if TYPE_CHECKING:
    from noderun.training.run import Run

EXAMPLES = 8  # of the batch: a reference in float64 costs far more than a training step
SHARE = 0.02  # of the training's time, for the gradient's error between epochs
FIRST_PRICE = 5  # steps; 2 to 13 were found, on mnist5k, digits and moons
FAR = 0.1  # a gradient at this relative distance from the flow's is worth a warning
log = logging.getLogger(__name__)
T = TypeVar("T")
Measure = Callable[[Sequence[BlockPass]], float]


def worst(measure: Callable[[BlockPass], float]) -> Measure:
    """The measurement of the first EXAMPLES of each pass, as the largest of all passes'."""
    return lambda seen: max(measure(done.first(EXAMPLES)) for done in seen)


GRADIENT_ERROR = "solve/gradient_error"
OF_TRAINING = ("memory/saved_mib", GRADIENT_ERROR)  # nothing for a field that is learned without a solve
MEASURES: dict[str, Measure] = {
    "memory/saved_mib": lambda seen: sum(map(solve_bytes, seen)) / MIB,
    "time/forward_ms": forward_ms,
    "solve/numerical_error": worst(numerical_error),
    "solve/reconstruction_error": worst(reconstruction_error),
    GRADIENT_ERROR: worst(gradient_error),
}


class Diagnostics(Callback):
    """Measures at the end of the run and every ``trainer.diagnostics_every`` epochs.

    In between it measures the gradient's error as long as that costs no more than SHARE of the training's time.
    """

    def __init__(self, setup: Setup, settings: Settings) -> None:
        self.setup = setup
        self.every = settings.trainer.diagnostics_every
        self.remedy = remedy(settings)
        self.count, self.seconds = 0, 0.0  # of the gradient's error measured between epochs
        self.due: tuple[str, ...] = ()
        self.warned = False

    def on_test_end(self, run: Run) -> None:
        self.due = self.tags_due(run)
        if self.due:  # measuring changes nothing, and must cost no training if it fails
            run.save()

    def on_epoch_end(self, run: Run) -> Mapping[str, float | None]:
        due, self.due = self.due, ()
        if not due:
            return {}
        start = time.perf_counter()
        if run.ended:
            run.write_result()
        with run.aside():
            row = diagnose(self.setup, next(self.setup.batches("train", 0, 0)), due)
        if due == (GRADIENT_ERROR,):
            self.count += 1
            self.seconds += time.perf_counter() - start
        self.warn(row.get(GRADIENT_ERROR) or 0.0, run.progress.in_epoch)
        return row

    def tags_due(self, run: Run) -> tuple[str, ...]:
        progress = run.progress
        if run.ended or (self.every and progress.in_epoch % self.every == 0):
            return tuple(tag for tag in MEASURES if progress.solves or tag not in OF_TRAINING)
        return (GRADIENT_ERROR,) if progress.solves and self.affordable(progress) else ()

    def affordable(self, progress: Progress) -> bool:
        """Whether one more measurement of the gradient's error keeps their time within SHARE of the training's.

        The first one is assumed to cost as much as FIRST_PRICE steps. One that failed is not tried again.
        """
        if progress.measured.get(GRADIENT_ERROR, 0.0) is None:
            return False
        training = progress.training_seconds
        price = self.seconds / self.count if self.count else FIRST_PRICE * training / progress.step
        return self.seconds + price <= SHARE * training

    def warn(self, error: float, epoch: int) -> None:
        """Say, once, that training follows another gradient than that of the flow."""
        if error > FAR and self.remedy and not self.warned:
            self.warned = True
            words = "after epoch %d the gradient is %.0f %% from that of the flow: try %s"
            log.warning(words, epoch, 100 * error, self.remedy)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.seconds = state["count"], state["seconds"]


def remedy(settings: Settings) -> str | None:
    """The settings that bring a solve's gradient closer to that of the flow, in words; None if there are none."""
    solver, gradient = settings.solver, settings.gradient
    if solver is None:
        return None
    if solver.dt is not None:
        return "a smaller solver.dt"
    if gradient is None or GRADIENTS[gradient.name].exact:
        return f"a tolerance below {solver.rtol:g}"
    return f"a gradient.rtol below {gradient.rtol:g}, or gradient=checkpointed"


def diagnose(setup: Setup, batch: Batch, tags: Sequence[str] = ()) -> dict[str, float | None]:
    """All measurements (or those of ``tags``) under the tags of metrics.jsonl.

    For a residual net only the memory is measured, of the blocks that stand where others solve. A measurement that
    fails, for whatever reason, is None and said in the log: no training is lost for it.
    """
    if not setup.blocks:
        stack = getattr(setup.model, "blocks", None)
        if not isinstance(stack, nn.Module):
            return {}
        return {"memory/saved_mib": attempted("memory/saved_mib", lambda: stack_bytes(setup, stack, batch) / MIB)}
    row: dict[str, float | None] = dict.fromkeys(tags or MEASURES)
    seen = attempted(", ".join(row), lambda: passes(setup, batch))
    if seen:  # empty if no block makes a solve that can be made again from its start alone
        with announced(f"measuring {', '.join(row)} (an error by a far more exact solve in float64)"):
            for tag in row:
                row[tag] = attempted(tag, partial(MEASURES[tag], seen))
    return row


def attempted(tag: str, measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        log.warning("%s was not measured: %s", tag, reason)
        return None
