"""One training run in its folder: started, or resumed from its checkpoint, up to its result.json."""

from __future__ import annotations

import logging
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
from noderun.record.run_identity import hyper_parameters
from noderun.record.terminal import STORY, Terminal
from noderun.training.best_weights import BestWeights
from noderun.training.callbacks import Callback
from noderun.training.checkpoint import (
    callback_states,
    load_run,
    load_weights_of,
    newest_checkpoint,
    packed,
    random_state,
    save_checkpoint,
    set_random_state,
)
from noderun.training.diagnostics import Diagnostics
from noderun.training.effort import Effort
from noderun.training.interrupts import Interrupts
from noderun.training.isolation import isolated
from noderun.training.loop import buffers_of, fit, run_test
from noderun.training.memory import PeakMemory
from noderun.training.multilevel import MultiLevel
from noderun.training.optimization import halved
from noderun.training.profile import Profile
from noderun.training.progress import Diverged, Progress, advice, make_budget
from noderun.training.ranks import RankLost
from noderun.training.result import make_result
from noderun.training.setup import Setup

log = logging.getLogger(__name__)
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
        self.profile = Profile(settings.trainer.profile, folder, setup.device)
        know(setup.objective.metrics)
        describe(setup.objective.metrics, folder)
        self.recorder = Recorder(folder, mark, settings.trainer.recorders)
        seconds = self.budget.seconds
        total = self.budget.steps if math.isinf(seconds) else seconds
        epochs = settings.trainer.epochs if math.isinf(seconds) else None
        self.terminal = Terminal(settings.log, epochs, total, self.spent)

    def complete(self) -> dict[str, Any]:
        """Train to the end that the settings name; returns what result.json then holds.

        Raises KeyboardInterrupt after a signal of STOPPING, once the run is saved, SolveError if a solve fails and
        Diverged if the loss does.
        """
        self.peak.start()
        self.saved_at = time.monotonic()
        with ExitStack() as stack:
            stack.push(self.recorder)
            stack.enter_context(self.interrupts)
            text = yaml.safe_dump(asdict(self.settings), sort_keys=False)
            self.recorder.describe(hyper_parameters(self.settings), text, self.setup.objective.metrics)
            log.info("%s", self.opening())
            stack.enter_context(self.terminal)
            self.terminal.state(self.progress.epoch + 1, {})
            if self.setup.ranks.count > 1:
                self.setup.ranks.sent(packed(self.state()))
            stack.enter_context(self.profile)
            for callback in self.callbacks:
                callback.on_fit_start(self)
            fit(self.setup, self.progress, self.budget, self.settings.trainer.log_every, self)
            for callback in self.callbacks:
                callback.on_fit_end()
        steps, seconds = self.progress.step, self.progress.training_seconds
        STORY.info("trained to the end: step %d, %.1f s of training", steps, seconds)
        return self.write_result()

    def opening(self) -> str:
        """What is trained for how long, or from where a run that was stopped goes on."""
        settings, progress = self.settings, self.progress
        if progress.step:
            return f"goes on after step {progress.step}, in epoch {progress.epoch + 1}: {self.folder.name}"
        parameters = sum(weight.numel() for weight in self.setup.model.parameters())
        length = f"{self.budget.seconds:g} s"
        if math.isinf(self.budget.seconds):
            each = self.setup.steps_per_epoch
            length = f"{self.budget.steps} steps, {each} per epoch{' with all examples' if each == 1 else ''}"
        what = f"{settings.model.name} with {parameters:,} parameters on {settings.data.name}"
        return f"{what}: {length}, seed {settings.seed}, {self.setup.device}"

    def write_result(self) -> dict[str, Any]:
        result = make_result(self.setup, self.settings, self.progress)
        write_json(self.folder / files.RESULT, result)
        return result

    def on_epoch_start(self) -> None:
        for callback in self.callbacks:
            callback.on_epoch_start(self)
        self.profile.before_step()

    @contextmanager
    def leavable(self) -> Iterator[None]:
        """A signal ends a pass in its middle and saves the run as it was before; a short pass is waited for."""
        start = time.monotonic()
        if self.pass_seconds < SHORT and self.setup.ranks.count == 1:
            yield
        else:
            random, buffers = random_state(self.setup.device), buffers_of(self.setup.model)
            try:
                with self.interrupts.at_once():
                    yield
            except (KeyboardInterrupt, RankLost):
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
        self.profile.after_step(last=False)
        self.terminal.advance(self.spent)
        due = time.monotonic() - self.saved_at >= self.settings.trainer.checkpoint_seconds
        if due or self.interrupts.pending:
            self.save()
        self.interrupts.check()
        self.profile.before_step()

    @property
    def ended(self) -> bool:
        return self.budget.spent(self.progress)

    @property
    def spent(self) -> float:
        """What was spent of the budget: seconds of training if it is in seconds, else steps."""
        return self.progress.step if math.isinf(self.budget.seconds) else self.progress.training_seconds

    def on_epoch_end(self) -> None:
        self.profile.after_step(last=True)
        progress, row = self.progress, dict[str, float | None]()
        tested = self.budget.test_due(progress)
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
        progress.count_test()
        self.save()
        self.interrupts.check()

    def test(self) -> None:
        try:
            run_test(self.setup, self.progress, self.interrupts.at_once)
        except (KeyboardInterrupt, RankLost):  # testing changed nothing, so it can simply be done again
            self.save()
            raise
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
        save_checkpoint(self.folder, self.state() | {"metrics": self.recorder.flush()})
        self.saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything but the rows that a run needs to continue."""
        progress = self.progress.state_dict()
        return {
            "model": self.setup.model.state_dict(),
            "optimizer": self.setup.optimizer.state_dict(),
            "scheduler": {"step": progress.pop("step")},
            "data": {name: progress.pop(name) for name in ("epoch", "batch")},
            "random": random_state(self.setup.device),
            "progress": progress,
            "callbacks": callback_states(self.callbacks),
        }

    def check_weights(self) -> None:
        """Raises Diverged if the last update has left a weight that is not finite, which the next loss would show."""
        finite = [weight.isfinite().all() for weight in self.setup.model.parameters()]
        if finite and not torch.stack(finite).all():
            step = self.progress.step
            raise Diverged(f"a weight is not finite after epoch {self.progress.in_epoch}, step {step}: {advice(step)}")

    def restore(self) -> dict[str, Any] | None:
        """Load the newest checkpoint, if there is one, into everything that it was made of; returns its mark.

        Without one, training starts from the weights of ``init_from`` or from those that the model has drawn.
        """
        state = newest_checkpoint(self.folder)
        if state is None:
            if self.settings.init_from is not None:
                load_weights_of(Path(self.settings.init_from), self.setup.model)
            return None
        try:
            self.progress = load_run(state, self.setup, self.callbacks)
            return {key: state["metrics"][key] for key in ("rows", "bytes", "sha256")}
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            path = self.folder / files.CHECKPOINT
            raise ValueError(
                f"{path} is of another version and cannot be resumed from; fresh=true starts over"
            ) from error


def built_in_callbacks(setup: Setup, settings: Settings) -> list[Callback]:
    return [MultiLevel(setup), BestWeights(setup, settings.trainer.patience), Effort(), Diagnostics(setup, settings)]
