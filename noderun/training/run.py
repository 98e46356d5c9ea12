"""One training run in its folder: started, or resumed from its checkpoint, up to its result.json."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from noderun.config.schema import Settings
from noderun.record import files
from noderun.record.metric import describe, know
from noderun.record.recorder import Recorder
from noderun.record.run_folder import write_json
from noderun.record.terminal import Terminal
from noderun.training.best_weights import BestWeights
from noderun.training.callbacks import Callback
from noderun.training.checkpoint import (
    callback_states,
    load_model,
    newest_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from noderun.training.diagnostics import Diagnostics
from noderun.training.effort import Effort
from noderun.training.interrupts import Interrupts
from noderun.training.isolation import isolated
from noderun.training.loop import buffers_of, evaluate, failures_named, fit
from noderun.training.memory import PeakMemory
from noderun.training.multilevel import MultiLevel
from noderun.training.optimization import halved
from noderun.training.progress import Diverged, Progress, advice, make_budget
from noderun.training.result import make_result
from noderun.training.setup import Setup

TESTS = 10  # in a budget of seconds
SHORT = 0.2  # seconds of a pass over a batch; what it takes to leave one in its middle costs less than a thousandth


class Run:
    """The loop's Callbacks: what is logged, saved and tested, and when; passes the hooks on to each callback."""

    def __init__(
        self, setup: Setup, settings: Settings, folder: Path, callbacks: Sequence[Callback] = (), restores: int = 0
    ) -> None:
        self.setup, self.settings, self.folder = setup, settings, folder
        self.callbacks = [*built_in_callbacks(setup, settings), *callbacks]
        self.progress = Progress()
        mark = self.restore()
        self.progress.restores = max(self.progress.restores, restores)
        self.setup = replace(setup, lr_schedule=halved(setup.lr_schedule, self.progress.restores))
        self.pass_seconds = math.inf  # of the last pass over a batch
        self.budget = make_budget(settings.trainer, setup.steps_per_epoch)
        self.peak = PeakMemory(setup.device)
        self.interrupts = Interrupts()
        know(setup.objective.metrics)
        describe(setup.objective.metrics, folder)
        self.recorder = Recorder(folder, mark)
        seconds = self.budget.seconds
        total = self.budget.steps if math.isinf(seconds) else seconds
        epochs = settings.trainer.epochs if math.isinf(seconds) else None
        self.terminal = Terminal(settings.log, epochs, total, self.spent)
        self.begun = mark is not None and mark["rows"] > 0

    def complete(self) -> dict[str, Any]:
        """Train to the end that the settings name; returns what result.json then holds.

        Raises KeyboardInterrupt after a signal of STOPPING, once the run is saved, SolveError if a solve fails and
        Diverged if the loss does.
        """
        self.peak.start()
        self.saved_at = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self.recorder.close)
            stack.enter_context(self.interrupts)
            if not self.begun:
                config = asdict(self.settings)
                self.recorder.describe(config, yaml.safe_dump(config, sort_keys=False), self.setup.objective.metrics)
            stack.enter_context(self.terminal)
            for callback in self.callbacks:
                callback.on_fit_start(self)
            fit(self.setup, self.progress, self.budget, self.settings.trainer.log_every, self)
            for callback in self.callbacks:
                callback.on_fit_end()
        return self.write_result()

    def write_result(self) -> dict[str, Any]:
        result = make_result(self.setup, self.settings, self.progress)
        write_json(self.folder / files.RESULT, result)
        return result

    def on_epoch_start(self) -> None:
        for callback in self.callbacks:
            callback.on_epoch_start(self)

    @contextmanager
    def leavable(self) -> Iterator[None]:
        """A signal ends a pass in its middle and saves the run as it was before; a short pass is waited for."""
        start = time.monotonic()
        if self.pass_seconds < SHORT:
            yield
        else:
            random, buffers = random_state(self.setup.device), buffers_of(self.setup.model)
            try:
                with self.interrupts.at_once():
                    yield
            except KeyboardInterrupt:
                set_random_state(random, self.setup.device)
                self.setup.model.load_state_dict(buffers, strict=False)
                self.save()
                raise
        self.pass_seconds = time.monotonic() - start

    def on_log(self, row: dict[str, float | None]) -> None:
        """Write one row to metrics.jsonl, TensorBoard and the live line."""
        progress = self.progress
        row = row | {"optim/lr": self.setup.optimizer.param_groups[0]["lr"], "memory/peak_mib": self.peak_mib()}
        self.recorder.log(row, progress.step, progress.in_epoch)
        self.terminal.state(progress.in_epoch, row)

    def on_step_end(self) -> None:
        """Save if it is time, and stop if a signal asked for it."""
        self.terminal.advance(self.spent)
        due = time.monotonic() - self.saved_at >= self.settings.trainer.checkpoint_seconds
        if due or self.interrupts.pending:
            self.save()
        self.interrupts.check()

    @property
    def ended(self) -> bool:
        return self.budget.spent(self.progress)

    @property
    def spent(self) -> float:
        """What was spent of the budget: seconds of training if it is in seconds, else steps."""
        return self.progress.step if math.isinf(self.budget.seconds) else self.progress.training_seconds

    @property
    def test_due(self) -> bool:
        """Each epoch ends in a test; a budget of seconds, in which there may be thousands, holds TESTS of them."""
        since = self.progress.training_seconds - self.progress.tested_at
        return self.ended or math.isinf(self.budget.seconds) or since >= self.budget.seconds / TESTS

    def on_epoch_end(self) -> None:
        progress, row = self.progress, dict[str, float | None]()
        tested = self.test_due
        if tested:
            self.test()
            row = {**progress.take_window(), **progress.test}
            self.terminal.epoch(self.epoch_cells())
        progress.next_epoch(self.setup.steps_per_epoch)
        for callback in self.callbacks:
            progress.measured |= (measured := callback.on_epoch_end(self))
            row |= measured
        if not tested:
            self.on_step_end()
            return
        self.on_log(row)
        progress.tested, progress.tested_at = progress.step, progress.training_seconds
        self.save()
        self.interrupts.check()

    def test(self) -> None:
        progress, start = self.progress, time.perf_counter()
        where = f"the test after epoch {progress.in_epoch}, step {progress.step}"
        try:
            with isolated(self.setup.device), failures_named(where, progress.step), self.interrupts.at_once():
                progress.test = evaluate(self.setup)
                if self.setup.validated:
                    progress.test |= evaluate(self.setup, "validation")
        except KeyboardInterrupt:  # testing changed nothing, so it can simply be done again
            self.save()
            raise
        progress.test_seconds += time.perf_counter() - start
        for loss in (progress.test[tag] for tag in ("loss/test", "loss/validation") if tag in progress.test):
            progress.check_loss(loss, f"the loss is {loss:.3g} in {where}", progress.step)
        for callback in self.callbacks:
            callback.on_test_end(self)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, for instance in a float64 reference, nothing counts as the run's draws or peak of memory.

        A signal ends it in its middle: what the run has learned was saved before.
        """
        self.peak_mib()
        with isolated(self.setup.device), self.interrupts.at_once():
            yield
        self.peak.start()

    def peak_mib(self) -> float:
        self.progress.peak_mib = max(self.progress.peak_mib, self.peak.read())
        return self.progress.peak_mib

    def epoch_cells(self) -> dict[str, str]:
        """The epoch's row of the terminal's table, with a column for each of the objective's metrics."""
        progress, means, trainer = self.progress, self.progress.means.values(), self.settings.trainer

        def cell(value: float | None, form: str) -> str:
            return "-" if value is None else format(value, form)

        number, seconds = f"{progress.epoch + 1}", progress.training_seconds  # all of them, if they are the budget
        if trainer.max_seconds is None:
            number, seconds = f"{number}/{trainer.epochs}", progress.means.total("seconds")
        shown = {
            "Epoch": number,
            "Time": f"{seconds:.1f} s",
            "NFE-F": cell(means.get("nfe/forward"), ".1f"),
            "NFE-B": cell(means.get("nfe/backward"), ".1f"),
            "Train Loss": cell(means.get("loss/train"), ".4f"),
        }
        for metric in self.setup.objective.metrics:
            if not metric.headline:
                continue
            heading = metric.heading.title() if metric.heading.islower() else metric.heading
            shown[heading] = cell(metric.value({**means, **progress.test}), metric.format)
        return shown

    def save(self) -> None:
        """Write the checkpoint, after the rows that it vouches for; never one of a run that has diverged."""
        self.progress.check_losses()
        self.check_weights()
        self.peak_mib()
        mark = self.recorder.flush()
        progress = self.progress.state_dict()
        parts = {
            "model": self.setup.model.state_dict(),
            "optimizer": self.setup.optimizer.state_dict(),
            "scheduler": {"step": progress.pop("step")},
            "data": {name: progress.pop(name) for name in ("epoch", "batch")},
            "random": random_state(self.setup.device),
            "progress": progress,
            "callbacks": callback_states(self.callbacks),
            "metrics": mark,
        }
        save_checkpoint(self.folder, parts)
        self.saved_at = time.monotonic()

    def check_weights(self) -> None:
        """Raises Diverged if the last update has left a weight that is not finite, which the next loss would show."""
        finite = [weight.isfinite().all() for weight in self.setup.model.parameters()]
        if finite and not torch.stack(finite).all():
            step = self.progress.step
            raise Diverged(f"a weight is not finite after epoch {self.progress.in_epoch}, step {step}: {advice(step)}")

    def restore(self) -> dict[str, Any] | None:
        """Load the newest checkpoint, if there is one, into everything that it was made of; returns its mark."""
        state = newest_checkpoint(self.folder)
        if state is None:
            return None
        try:
            load_model(state, self.setup, self.callbacks)
            self.setup.optimizer.load_state_dict(state["optimizer"])
            set_random_state(state["random"], self.setup.device)
            self.progress = Progress.from_state(state["progress"] | state["scheduler"] | state["data"])
            return {key: state["metrics"][key] for key in ("rows", "bytes", "sha256", "step")}
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            path = self.folder / files.CHECKPOINT
            raise ValueError(
                f"{path} is of another version and cannot be resumed from; fresh=true starts over"
            ) from error


def built_in_callbacks(setup: Setup, settings: Settings) -> list[Callback]:
    return [MultiLevel(setup), BestWeights(setup, settings.trainer.patience), Effort(), Diagnostics(setup, settings)]
