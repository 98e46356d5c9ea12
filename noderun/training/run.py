"""One training run in its folder: started, or resumed from its checkpoint, up to its result.json."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from noderun.config.schema import Settings
from noderun.record import files
from noderun.record.metric import describe, know
from noderun.record.recorder import Recorder
from noderun.record.run_folder import write_json
from noderun.record.terminal import Terminal
from noderun.training.callbacks import Callback
from noderun.training.checkpoint import (
    callback_states,
    load_checkpoint,
    load_model,
    random_state,
    save_checkpoint,
    set_random_state,
)
from noderun.training.diagnostics import Diagnostics
from noderun.training.interrupts import Interrupts
from noderun.training.isolation import isolated
from noderun.training.loop import evaluate, failures_named, fit
from noderun.training.memory import PeakMemory
from noderun.training.multilevel import MultiLevel
from noderun.training.progress import Progress
from noderun.training.result import make_result
from noderun.training.setup import Setup


class Run:
    """The loop's Callbacks: what is logged, saved and tested, and when; passes the hooks on to each callback."""

    def __init__(self, setup: Setup, settings: Settings, folder: Path, callbacks: Sequence[Callback] = ()) -> None:
        self.setup, self.settings, self.folder = setup, settings, folder
        self.callbacks = [*built_in_callbacks(setup, settings), *callbacks]
        self.progress = Progress()
        mark = self.restore()
        last, limit = settings.trainer.epochs * setup.steps_per_epoch, settings.trainer.max_steps
        self.last = last if limit is None else min(last, limit)
        self.peak = PeakMemory(setup.device)
        self.interrupts = Interrupts()
        know(setup.objective.metrics)
        describe(setup.objective.metrics, folder)
        self.recorder = Recorder(folder, mark)
        self.terminal = Terminal(settings.log, settings.trainer.epochs, self.last, self.progress.step)
        self.begun = mark is not None and mark["rows"] > 0

    def complete(self) -> dict[str, Any]:
        """Train to the end that the settings name; returns what result.json then holds.

        Raises KeyboardInterrupt after SIGINT or SIGTERM, once the run is saved, SolveError if a solve fails and
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
            fit(self.setup, self.progress, self.last, self.settings.trainer.log_every, self)
        return self.write_result()

    def write_result(self) -> dict[str, Any]:
        result = make_result(self.setup, self.settings, self.progress)
        write_json(self.folder / files.RESULT, result)
        return result

    def on_epoch_start(self) -> None:
        for callback in self.callbacks:
            callback.on_epoch_start(self)

    def on_log(self, row: dict[str, float | None]) -> None:
        """Write one row to metrics.jsonl, TensorBoard and the live line."""
        progress = self.progress
        row = row | {"optim/lr": self.setup.optimizer.param_groups[0]["lr"], "memory/peak_mib": self.peak_mib()}
        self.recorder.log(row, progress.step, progress.in_epoch)
        self.terminal.state(progress.in_epoch, row)

    def on_step_end(self) -> None:
        """Save if it is time, and stop if a signal asked for it."""
        self.terminal.step(self.progress.step)
        due = time.monotonic() - self.saved_at >= self.settings.trainer.checkpoint_seconds
        if due or self.interrupts.pending:
            self.save()
        self.interrupts.check()

    def on_epoch_end(self) -> None:
        progress = self.progress
        try:
            self.test()
        except KeyboardInterrupt:  # testing changed nothing, so it can simply be done again
            self.save()
            raise
        for callback in self.callbacks:
            callback.on_test_end(self)
        row = {**progress.take_window(), **progress.test}
        self.terminal.epoch(self.epoch_cells())
        if progress.batch == self.setup.steps_per_epoch:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        for callback in self.callbacks:
            progress.measured |= (measured := callback.on_epoch_end(self))
            row |= measured
        self.on_log(row)
        progress.tested = progress.step
        self.save()
        self.interrupts.check()

    def test(self) -> None:
        progress, start = self.progress, time.perf_counter()
        where = f"the test after epoch {progress.in_epoch}, step {progress.step}"
        with isolated(self.setup.device), failures_named(where, progress.step):
            progress.test = evaluate(self.setup, self.interrupts.check)
        progress.test_seconds += time.perf_counter() - start
        loss = progress.test["loss/test"]
        progress.check_loss(loss, f"the loss is {loss:.3g} in {where}", progress.step)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, for instance in a float64 reference, nothing counts as the run's draws or peak of memory."""
        self.peak_mib()
        with isolated(self.setup.device):
            yield
        self.peak.start()

    def peak_mib(self) -> float:
        self.progress.peak_mib = max(self.progress.peak_mib, self.peak.read())
        return self.progress.peak_mib

    def epoch_cells(self) -> dict[str, str]:
        """The epoch's row of the terminal's table, with a column for each of the objective's metrics."""
        progress, means = self.progress, self.progress.means.values()

        def cell(value: float | None, form: str) -> str:
            return "-" if value is None else format(value, form)

        shown = {
            "Epoch": f"{progress.epoch + 1}/{self.settings.trainer.epochs}",
            "Time": f"{progress.means.total('seconds'):.1f} s",
            "NFE-F": cell(means.get("nfe/forward"), ".1f"),
            "NFE-B": cell(means.get("nfe/backward"), ".1f"),
            "Train Loss": cell(means.get("loss/train"), ".4f"),
        }
        for metric in self.setup.objective.metrics:
            heading = metric.heading.title() if metric.heading.islower() else metric.heading
            shown[heading] = cell(metric.value(progress.test), metric.format)
        return shown

    def save(self) -> None:
        """Write the checkpoint, after the rows that it vouches for; never one of a run that has diverged."""
        self.progress.check_losses()
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
        save_checkpoint(self.folder / files.CHECKPOINT, parts)
        self.saved_at = time.monotonic()

    def restore(self) -> dict[str, Any] | None:
        """Load the checkpoint, if there is one, into everything that it was made of; returns its mark."""
        path = self.folder / files.CHECKPOINT
        state = load_checkpoint(path)
        if state is None:
            return None
        try:
            load_model(state, self.setup, self.callbacks)
            self.setup.optimizer.load_state_dict(state["optimizer"])
            set_random_state(state["random"], self.setup.device)
            self.progress = Progress.from_state(state["progress"] | state["scheduler"] | state["data"])
            return {key: state["metrics"][key] for key in ("rows", "bytes", "sha256", "step")}
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is of another version and cannot be resumed from; fresh=true starts over"
            ) from error


def built_in_callbacks(setup: Setup, settings: Settings) -> list[Callback]:
    return [MultiLevel(setup), Diagnostics(setup, settings)]
