"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from noderun.data import Batch
from noderun.ode.solvers.errors import SolveError
from noderun.training.meters import Number, RunningMeans, solve_numbers
from noderun.training.optimization import set_lr
from noderun.training.progress import Budget, Progress, advice
from noderun.training.setup import Setup


class Callbacks(Protocol):
    """The hooks of the loop."""

    def on_epoch_start(self) -> None:
        """Called before the first step of an epoch, or of the rest of an interrupted one."""

    def on_log(self, row: dict[str, float | None]) -> None:
        """Gets the means since the last row, every ``log_every`` steps."""

    def on_step_end(self) -> None:
        """Called between two steps: the run may be saved or left here."""

    def on_epoch_end(self) -> None:
        """Called after the last step of an epoch or of the run: tests if it is time, logs, saves, counts the epoch."""


def fit(setup: Setup, progress: Progress, budget: Budget, log_every: int, run: Callbacks) -> None:
    """Train from the step at which ``progress`` stands until the budget is spent.

    Raises Diverged if a loss fails and SolveError if a solve does; either names the step.
    """
    on_cpu = setup.device.type == "cpu"  # there, looking at every loss makes nothing wait
    while progress.tested < progress.step or not budget.spent(progress):
        run.on_epoch_start()
        setup.model.train()
        progress.begin_epoch()
        left = (
            0 if budget.spent(progress) else min(setup.steps_per_epoch - progress.batch, budget.steps - progress.step)
        )
        start = time.perf_counter()
        for batch in islice(setup.batches("train", progress.epoch, progress.batch), left):
            log_now = (progress.step + 1) % log_every == 0
            with failures_named(f"epoch {progress.epoch + 1}, step {progress.step + 1}", progress.step):
                numbers = train_step(setup, batch, budget.position(progress, setup.horizon), with_norm=log_now)
            now = time.perf_counter()
            progress.advance(numbers, len(batch), now - start)
            start = now
            left = 0 if budget.spent(progress) else left - 1
            if on_cpu or log_now or left == 0:
                progress.check_losses()
            if left == 0:
                break  # on_epoch_end writes the last row and checkpoint
            if log_now:
                run.on_log(progress.take_window())
            run.on_step_end()
        run.on_epoch_end()


@contextmanager
def failures_named(where: str, updates: int) -> Iterator[None]:
    """Add to the message of a solve that fails inside where training stood, and what to try."""
    try:
        yield
    except SolveError as error:
        error.args = (f"{error} in {where}: {advice(updates)}",)
        raise


def train_step(setup: Setup, batch: Batch, step: int, with_norm: bool = False) -> dict[str, Number | None]:
    """Make one optimizer step at this step of the schedule; returns the batch's numbers by tag."""
    set_lr(setup.optimizer, setup.lr_schedule(step))
    setup.optimizer.zero_grad(set_to_none=True)
    setup.objective.step = step
    values = setup.values(batch)
    values["loss"].backward()
    numbers: dict[str, Number | None] = {f"{name}/train": over_batch(v) for name, v in values.items()}
    if setup.clip_norm is not None or with_norm:
        limit = math.inf if setup.clip_norm is None else setup.clip_norm
        numbers["optim/grad_norm"] = clip_grad_norm_(setup.model.parameters(), limit)
    setup.optimizer.step()
    return numbers | solve_numbers(block.stats for block in setup.blocks)


def over_batch(value: Tensor) -> Tensor:
    """The mean [] of what an objective reports: itself, or of a value per example."""
    return value.mean() if value.dim() else value


@torch.no_grad()
def evaluate(setup: Setup, pause: Callable[[], None], split: str = "test") -> dict[str, float]:
    """Means over the test split, or that for validation, each example counting the same, and NFE per batch.

    What the objective reports for each example also has its standard error, under NAME_se/test.
    ValueError if the objective does not report a number that one of its metrics is made from.
    """
    setup.model.eval()
    means, squares, count = RunningMeans(), RunningMeans(), 0
    for batch in setup.batches(split, 0, 0):
        pause()
        values = setup.values(batch)
        means.add({f"{name}/{split}": over_batch(value) for name, value in values.items()}, weight=len(batch))
        per_example = {name: value.double() for name, value in values.items() if value.dim()}
        squares.add({name: value.square().mean() for name, value in per_example.items()}, weight=len(batch))
        count += len(batch)
        means.add({f"nfe/{split}": solve_numbers(block.stats for block in setup.blocks)["nfe/forward"]})
    found = means.values()
    for name, square in squares.values().items():
        variance = max(square - found[f"{name}/{split}"] ** 2, 0.0)
        found[f"{name}_se/{split}"] = math.sqrt(variance / max(count - 1, 1))
    if split != "test":
        return found
    whole = setup.objective.over_split(setup.model, setup.batches("test", 0, 0))
    found |= {f"{name}/test": float(value) for name, value in whole.items()}
    for metric in setup.objective.metrics:
        if metric.tag.endswith("/test") and metric.tag not in found:
            raise ValueError(
                f"the objective's metric {metric.name} is made from {metric.tag}; it reports {list(found)}"
            )
    return found
