"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, count, islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from noderun.data import Batch
from noderun.ode.solvers.errors import NonFiniteDynamics, SolveError
from noderun.training.isolation import isolated
from noderun.training.meters import Number, RunningMeans, solve_numbers
from noderun.training.optimization import set_lr
from noderun.training.progress import Budget, Progress, advice
from noderun.training.setup import Setup


class OutOfMemory(ValueError):
    """A step for which the memory is too small."""


class Callbacks(Protocol):
    """The hooks of the loop."""

    def on_epoch_start(self) -> None:
        """Called before the first step of an epoch, or of the rest of an interrupted one."""

    def leavable(self) -> AbstractContextManager[None]:
        """Around a pass over a batch, which changes no weights: a signal may end it in its middle."""

    def on_log(self, row: dict[str, float | None]) -> None:
        """Gets the means since the last row, every ``log_every`` steps."""

    def on_step_end(self) -> None:
        """Called between two steps: the run may be saved or left here."""

    def on_epoch_end(self) -> None:
        """Called after the last step of an epoch or of the run: tests if it is time, logs, saves, counts the epoch."""


def fit(setup: Setup, progress: Progress, budget: Budget, log_every: int, run: Callbacks) -> None:
    """Train from the step at which ``progress`` stands until the budget is spent.

    Raises Diverged if a loss fails, SolveError if a solve does and OutOfMemory; each names the step.
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
                setup.objective.step = progress.step
                position = budget.position(progress, setup.horizon)
                numbers = train_step(setup, batch, position, with_norm=log_now, leavable=run.leavable)
            now = time.perf_counter()
            seconds, start = setup.ranks.agreed(now - start), now
            if numbers is None:
                progress.skip(seconds)
            else:
                progress.advance(numbers, len(batch), seconds)
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
    """Add to the message of a solve that fails inside where training stood, and what to try; OutOfMemory likewise."""
    try:
        yield
    except SolveError as error:
        error.args = (f"{error} in {where}: {advice(updates)}",)
        raise
    except (RuntimeError, MemoryError) as error:
        on_cpu = "can't allocate memory" in str(error)  # for which torch has no class of its own
        if not (on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)):
            raise
        raise OutOfMemory(f"out of memory in {where}: try a smaller data.batch_size or gradient=adjoint") from error


def train_step(
    setup: Setup,
    batch: Batch,
    step: int,
    with_norm: bool = False,
    leavable: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, Number | None] | None:
    """Make one optimizer step at this step of the schedule; returns the batch's numbers by tag.

    The first pass over the batch is made inside ``leavable()``. None if the loss or the gradient is not finite and
    such steps are skipped: nothing has changed then.
    """
    kept = buffers_of(setup.model) if setup.skips else {}
    set_lr(setup.optimizer, setup.lr_schedule(step))
    for block in setup.blocks:
        block.stats = None  # those of the last test, if this step solves nothing
    numbers: dict[str, Any] = {}

    def loss() -> Any:
        """The loss with its gradients; L-BFGS asks for it several times, and the last numbers count."""
        setup.optimizer.zero_grad(set_to_none=True)
        values = setup.ranks.values(setup, batch)
        values["loss"].backward()
        found: dict[str, Number | None] = {f"{name}/train": over_batch(v) for name, v in values.items()}
        if setup.clip_norm is not None or with_norm or setup.skips:
            limit = math.inf if setup.clip_norm is None else setup.clip_norm
            found["optim/grad_norm"] = clip_grad_norm_(setup.model.parameters(), limit)
        numbers.update(setup.ranks.mean(found, solve_numbers(block.stats for block in setup.blocks)))
        return numbers["loss/train"].detach()

    try:
        with leavable(), setup.ranks.watched(), torch.enable_grad():  # as the optimizer calls it
            first = loss()
        finite = not setup.skips or bool(torch.isfinite(first + numbers["optim/grad_norm"]))
    except NonFiniteDynamics:
        if not setup.skips:
            raise
        finite = False
    if not finite:
        setup.model.load_state_dict(kept, strict=False)
        return None
    losses = chain([first], (loss() for _ in count()))
    setup.optimizer.step(lambda: next(losses))
    return numbers


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """What a pass in training mode may change of a model: copies of its buffers, for load_state_dict."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def over_batch(value: Tensor) -> Tensor:
    """The mean [] of what an objective reports: itself, or of a value per example."""
    return value.mean() if value.dim() else value


def standard_error(values: Tensor) -> float:
    """Of the mean of ``values`` [N]; 0 for a single one."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


def run_test(
    setup: Setup, progress: Progress, leavable: Callable[[], AbstractContextManager[None]] = nullcontext
) -> None:
    """Test the weights as they are, by the validation split too if there is one; Diverged if their loss explodes."""
    start = time.perf_counter()
    where = f"the test after epoch {progress.in_epoch}, step {progress.step}"
    with isolated(setup.device), failures_named(where, progress.step), setup.ranks.watched(), leavable():
        progress.test = evaluate(setup)
        if setup.validated:
            progress.test |= evaluate(setup, "validation")
    progress.test_seconds += time.perf_counter() - start
    for loss in (progress.test[tag] for tag in ("loss/test", "loss/validation") if tag in progress.test):
        progress.check_loss(loss, f"the loss is {loss:.3g} in {where}", progress.step)


@torch.no_grad()
def evaluate(setup: Setup, split: str = "test") -> dict[str, float]:
    """Means over the test split, or that for validation, each example counting the same, and NFE per batch.

    What the objective reports for each example also has its standard error, under NAME_se/test.
    ValueError if the objective does not report a number that one of its metrics is made from.
    """
    setup.model.eval()
    means, per_example = RunningMeans(), dict[str, list[Tensor]]()
    for batch in setup.ranks.dealt(setup.batches(split, 0, 0)):
        values = setup.values(batch)
        means.add({f"{name}/{split}": over_batch(value) for name, value in values.items()}, weight=len(batch))
        means.add({f"nfe/{split}": solve_numbers(block.stats for block in setup.blocks)["nfe/forward"]})
        for name, value in values.items():
            if value.dim():
                per_example.setdefault(name, []).append(value.double())
    means, values_of = of_all_ranks(setup, means, {name: torch.cat(parts) for name, parts in per_example.items()})
    found = means.values() | {f"{name}_se/{split}": standard_error(values) for name, values in values_of.items()}
    if split != "test":
        return found
    whole = setup.objective.over_split(setup.model, setup.batches(split, 0, 0))
    found |= {f"{name}/{split}": float(value) for name, value in whole.items()}
    for metric in setup.objective.metrics:
        if metric.tag.endswith("/test") and metric.tag not in found:
            raise ValueError(
                f"the objective's metric {metric.name} is made from {metric.tag}; it reports {list(found)}"
            )
    return found


def of_all_ranks(
    setup: Setup, means: RunningMeans, per_example: dict[str, Tensor]
) -> tuple[RunningMeans, dict[str, Tensor]]:
    """What the ranks have found on their batches of a split, together."""
    if setup.ranks.count == 1:
        return means, per_example
    whole = RunningMeans()
    parts: dict[str, list[Tensor]] = {}
    for state, values in setup.ranks.gathered((means.state_dict(), {k: v.cpu() for k, v in per_example.items()})):
        whole.merge(RunningMeans.from_state(state))
        for name, value in values.items():
            parts.setdefault(name, []).append(value)
    return whole, {name: torch.cat(found) for name, found in parts.items()}
