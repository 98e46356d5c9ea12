"""One training run in its folder: begun, or taken up where its checkpoint stands, up to its result.json."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from noderun.record import files
from noderun.record.recorder import Recorder
from noderun.record.terminal import Terminal
from noderun.settings import Settings
from noderun.training.checkpoint import load_checkpoint, random_state, save_checkpoint, set_random_state
from noderun.training.diagnostics import diagnose
from noderun.training.interrupts import Interrupts
from noderun.training.isolation import isolated
from noderun.training.loop import evaluate, fit
from noderun.training.memory import PeakMemory
from noderun.training.multilevel import deepen
from noderun.training.progress import Progress
from noderun.training.result import make_result, write_result
from noderun.training.setup import Setup

Watch = Callable[[Setup, int, Path], None]  # of an epoch (0: before the first), at each that diagnostics_every names


class Run:
    """The loop's surroundings: what is logged, saved and measured, and when."""

    def __init__(self, setup: Setup, settings: Settings, folder: Path, watch: Watch | None = None) -> None:
        self.setup, self.settings, self.folder = setup, settings, folder
        self.watch = watch if watch and settings.trainer.diagnostics_every else lambda setup, epoch, folder: None
        self.progress = Progress()
        self.restore()
        last, limit = settings.trainer.epochs * setup.steps_per_epoch, settings.trainer.max_steps
        self.last = last if limit is None else min(last, limit)
        self.peak = PeakMemory(setup.device)
        self.interrupts = Interrupts()
        self.recorder = Recorder(folder, self.progress.logged)
        self.terminal = Terminal(settings.log, settings.trainer.epochs, self.last, self.progress.step)

    def complete(self) -> dict[str, Any]:
        """Trains to the end that the settings name and returns what result.json then holds.

        Raises KeyboardInterrupt after SIGINT or SIGTERM, once the run is saved, and SolveError where a solve fails.
        """
        self.peak.start()
        self.saved_at = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self.recorder.close)
            stack.enter_context(self.interrupts)
            if self.progress.logged < 0:
                config = asdict(self.settings)
                self.recorder.describe(config, yaml.safe_dump(config, sort_keys=False))
            stack.enter_context(self.terminal)
            if self.progress.step == 0:
                self.look(0)
            fit(self.setup, self.progress, self.last, self.settings.trainer.log_every, self)
        result = make_result(self.setup, self.settings, self.progress)
        write_result(self.folder / files.RESULT, result)
        return result

    def log(self, row: dict[str, float]) -> None:
        """One row for metrics.jsonl, TensorBoard and the live line."""
        progress = self.progress
        row = row | {"optim/lr": self.setup.optimizer.param_groups[0]["lr"], "memory/peak_mib": self.peak_mib()}
        epoch = progress.epoch + 1
        self.recorder.log(row, progress.step, epoch)
        progress.logged = progress.step
        self.terminal.state(epoch, row)

    def pause(self) -> None:
        """Between two steps: where training is saved or left."""
        self.terminal.step(self.progress.step)
        due = time.monotonic() - self.saved_at >= self.settings.trainer.checkpoint_seconds
        if due or self.interrupts.pending:
            self.save()
        self.interrupts.check()

    def close_epoch(self) -> None:
        """After the last step of an epoch or of the run: evaluates, logs and saves."""
        progress = self.progress
        try:
            self.test()
        except KeyboardInterrupt:  # evaluating changed nothing, so it can simply be done again
            self.save()
            raise
        self.log(progress.take_window() | progress.test | self.diagnostics())
        self.terminal.epoch(self.epoch_cells())
        progress.tested = progress.step
        if progress.batch == self.setup.steps_per_epoch:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        self.save()
        self.interrupts.check()

    def test(self) -> None:
        start = time.perf_counter()
        with isolated(self.setup.device):
            self.progress.test = evaluate(self.setup, self.interrupts.check)
        self.progress.test_seconds += time.perf_counter() - start

    def diagnostics(self) -> dict[str, float]:
        every, epoch = self.settings.trainer.diagnostics_every, self.progress.epoch + 1
        if self.progress.step < self.last and (every == 0 or epoch % every):
            return {}
        self.peak_mib()
        with isolated(self.setup.device):
            self.progress.diagnostics = diagnose(self.setup, next(self.setup.batches("train", 0, 0)))
        self.look(epoch)
        return self.progress.diagnostics

    def look(self, epoch: int) -> None:
        """Shows the model to whoever watches; like a float64 reference, that is no part of the run's peak."""
        with isolated(self.setup.device):
            self.watch(self.setup, epoch, self.folder)
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
        """Writes the checkpoint, after the rows that it vouches for."""
        self.peak_mib()
        self.recorder.flush()
        progress = self.progress.state_dict()
        parts = {
            "model": self.setup.model.state_dict(),
            "optimizer": self.setup.optimizer.state_dict(),
            "scheduler": {"step": progress.pop("step")},
            "data": {name: progress.pop(name) for name in ("epoch", "batch")},
            "random": random_state(self.setup.device),
            "progress": progress,
        }
        save_checkpoint(self.folder / files.CHECKPOINT, parts)
        self.saved_at = time.monotonic()

    def restore(self) -> None:
        """Puts the checkpoint, if there is one, into model, optimiser, generators and progress."""
        path = self.folder / files.CHECKPOINT
        state = load_checkpoint(path)
        if state is None:
            return
        try:
            deepen(self.setup, state["progress"]["deepened"])
            self.setup.model.load_state_dict(state["model"])
            self.setup.optimizer.load_state_dict(state["optimizer"])
            set_random_state(state["random"], self.setup.device)
            self.progress = Progress.from_state(state["progress"] | state["scheduler"] | state["data"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{path} is of another version and cannot be resumed from; fresh=true starts over"
            ) from error
