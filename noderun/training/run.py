"""One training run in its folder: begun, or taken up where its checkpoint stands, up to its result.json."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from noderun.config.schema import Settings
from noderun.record import files
from noderun.record.recorder import Recorder
from noderun.record.terminal import Terminal
from noderun.training.checkpoint import load_checkpoint, random_state, save_checkpoint, set_random_state
from noderun.training.diagnostics import GRADIENT_ERROR, MEASURES, affordable, diagnose
from noderun.training.interrupts import Interrupts
from noderun.training.isolation import isolated
from noderun.training.loop import evaluate, failures_named, fit
from noderun.training.memory import PeakMemory
from noderun.training.multilevel import deepen
from noderun.training.progress import Progress
from noderun.training.result import make_result, write_result
from noderun.training.setup import Setup

FAR = 0.1  # a gradient that is so far from the flow's, in relative distance, is worth a warning
log = logging.getLogger(__name__)
Watch = Callable[[Setup, int, Path], None]  # of an epoch (0: before the first), at each that diagnostics_every names


class Run:
    """The loop's surroundings: what is logged, saved and measured, and when."""

    def __init__(self, setup: Setup, settings: Settings, folder: Path, watch: Watch | None = None) -> None:
        self.setup, self.settings, self.folder = setup, settings, folder
        self.watch = watch if watch and settings.trainer.diagnostics_every else lambda setup, epoch, folder: None
        self.progress = Progress()
        mark = self.restore()
        last, limit = settings.trainer.epochs * setup.steps_per_epoch, settings.trainer.max_steps
        self.last = last if limit is None else min(last, limit)
        self.peak = PeakMemory(setup.device)
        self.interrupts = Interrupts()
        self.recorder = Recorder(folder, mark)
        self.terminal = Terminal(settings.log, settings.trainer.epochs, self.last, self.progress.step)
        self.begun = mark is not None and mark["rows"] > 0
        self.warned = False

    def complete(self) -> dict[str, Any]:
        """Trains to the end that the settings name and returns what result.json then holds.

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
                self.recorder.describe(config, yaml.safe_dump(config, sort_keys=False))
            stack.enter_context(self.terminal)
            if self.progress.step == 0:
                self.look(0)
            fit(self.setup, self.progress, self.last, self.settings.trainer.log_every, self)
        return self.write_result()

    def write_result(self) -> dict[str, Any]:
        result = make_result(self.setup, self.settings, self.progress)
        write_result(self.folder / files.RESULT, result)
        return result

    def log(self, row: dict[str, float | None]) -> None:
        """One row for metrics.jsonl, TensorBoard and the live line."""
        progress = self.progress
        row = row | {"optim/lr": self.setup.optimizer.param_groups[0]["lr"], "memory/peak_mib": self.peak_mib()}
        self.recorder.log(row, progress.step, progress.in_epoch)
        self.terminal.state(progress.in_epoch, row)

    def pause(self) -> None:
        """Between two steps: where training is saved or left."""
        self.terminal.step(self.progress.step)
        due = time.monotonic() - self.saved_at >= self.settings.trainer.checkpoint_seconds
        if due or self.interrupts.pending:
            self.save()
        self.interrupts.check()

    def close_epoch(self) -> None:
        """After the last step of an epoch or of the run: evaluates, measures, logs and saves."""
        progress = self.progress
        try:
            self.test()
        except KeyboardInterrupt:  # evaluating changed nothing, so it can simply be done again
            self.save()
            raise
        due = self.due()
        if due:  # measuring changes nothing either, and must cost nothing, whatever becomes of it
            self.save()
        row = {**progress.take_window(), **progress.test}
        self.terminal.epoch(self.epoch_cells())
        if progress.batch == self.setup.steps_per_epoch:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        self.log({**row, **self.measured(due)} if due else row)
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

    def due(self) -> tuple[str, ...]:
        """What is to be measured now, of all that costs solves of its own."""
        progress, every = self.progress, self.settings.trainer.diagnostics_every
        if progress.step == self.last or (every and progress.in_epoch % every == 0):
            return tuple(MEASURES)
        return (GRADIENT_ERROR,) if self.setup.blocks and affordable(progress) else ()

    def measured(self, tags: tuple[str, ...]) -> dict[str, float | None]:
        """The row's share of these tags; at the end of the run its result is written before."""
        progress, start = self.progress, time.perf_counter()
        if progress.step == self.last:
            self.write_result()
        with self.aside():
            row = diagnose(self.setup, next(self.setup.batches("train", 0, 0)), self.interrupts.check, tags)
        if tags == (GRADIENT_ERROR,):
            progress.gradient_measurements += 1
            progress.gradient_seconds += time.perf_counter() - start
        else:
            self.look(progress.in_epoch)
        progress.diagnostics |= row
        self.warn_of(row.get(GRADIENT_ERROR) or 0.0)
        return row

    def warn_of(self, error: float) -> None:
        """Says, once, that training follows another gradient than that of the flow."""
        if error > FAR and not self.warned:
            self.warned = True
            words = "after epoch %d the gradient is %.0f %% from that of the flow: try %s"
            log.warning(words, self.progress.in_epoch, 100 * error, self.setup.closer)

    def look(self, epoch: int) -> None:
        """Shows the model to whoever watches."""
        with self.aside():
            self.watch(self.setup, epoch, self.folder)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done inside, a float64 reference for instance, is no part of the run's draws nor of its peak."""
        self.peak_mib()
        with isolated(self.setup.device):
            yield
        self.peak.start()

    def peak_mib(self) -> float:
        self.progress.peak_mib = max(self.progress.peak_mib, self.peak.read())
        return self.progress.peak_mib

    def epoch_cells(self) -> dict[str, str]:
        progress, means = self.progress, self.progress.means.values()

        def cell(value: float | None, form: str) -> str:
            return "-" if value is None else form.format(value)

        return {
            "Epoch": f"{progress.epoch + 1}/{self.settings.trainer.epochs}",
            "Time": f"{progress.means.total('seconds'):.1f} s",
            "NFE-F": cell(means.get("nfe/forward"), "{:.1f}"),
            "NFE-B": cell(means.get("nfe/backward"), "{:.1f}"),
            "Train Loss": cell(means.get("loss/train"), "{:.4f}"),
            "Test Error": cell(progress.test.get("error/test"), "{:.2%}"),
        }

    def save(self) -> None:
        """Writes the checkpoint, after the rows that it vouches for; never one of a run that has diverged."""
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
            "metrics": mark,
        }
        save_checkpoint(self.folder / files.CHECKPOINT, parts)
        self.saved_at = time.monotonic()

    def restore(self) -> dict[str, Any] | None:
        """Puts the checkpoint, if there is one, into model, optimiser, generators and progress; returns its mark."""
        path = self.folder / files.CHECKPOINT
        state = load_checkpoint(path)
        if state is None:
            return None
        try:
            deepen(self.setup, state["progress"]["deepened"])
            self.setup.model.load_state_dict(state["model"])
            self.setup.optimizer.load_state_dict(state["optimizer"])
            set_random_state(state["random"], self.setup.device)
            self.progress = Progress.from_state(state["progress"] | state["scheduler"] | state["data"])
            return {key: state["metrics"][key] for key in ("rows", "bytes", "sha256", "step")}
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is of another version and cannot be resumed from; fresh=true starts over"
            ) from error
