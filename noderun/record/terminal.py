"""The progress of a run on stderr: a live line and one row per epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

CONSOLE = Console(stderr=True)  # one for the bar and the logs, so that neither writes over the other
STORY = logging.getLogger("noderun.story")  # for run.log alone: what the terminal shows in its own way, or not at all
_JOB: ContextVar[str] = ContextVar("job", default="")


@contextmanager
def of_job(name: str) -> Iterator[None]:
    """Put this name before each line about a training that begins inside: the job of a grid that it is."""
    token = _JOB.set(name)
    try:
        yield
    finally:
        _JOB.reset(token)


def handler() -> logging.Handler:
    """The handler of Hydra's job_logging: on the shared console, or where there is no terminal a line per message."""
    shown: logging.Handler = PlainHandler()
    if CONSOLE.is_terminal:
        shown = RichHandler(console=CONSOLE, show_time=False, show_path=False, rich_tracebacks=True)
    shown.addFilter(lambda record: record.name != STORY.name)
    return shown


class PlainHandler(logging.StreamHandler[TextIO]):
    """On stderr, with the time and the level; Hydra's formatter gives the message alone."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"[{moment}] {record.levelname} {super().format(record)}"


class Terminal:
    """mode: ``live`` (plain if stderr is not a terminal), ``plain`` or ``quiet``.

    ``total`` is the budget, in steps or in seconds, and ``epochs`` how many make it up, if that is known.
    """

    def __init__(self, mode: str, epochs: int | None, total: float, done: float = 0) -> None:
        self._quiet = mode == "quiet"
        self._epochs = epochs
        self._job = _JOB.get() and f"{_JOB.get()} | "
        self._header = False
        self._progress: Progress | None = None
        if mode == "live" and CONSOLE.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn(
                    ("step" if epochs else "s") + " {task.completed:.0f}/{task.total:.0f} {task.fields[state]} eta"
                ),
                TimeRemainingColumn(compact=True),
            )
            self._progress = Progress(*columns, console=CONSOLE, transient=True, refresh_per_second=4)
            self._task: TaskID = self._progress.add_task("", total=total, state="")
            self._progress.update(self._task, completed=done)

    def __enter__(self) -> Terminal:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        if self._progress:
            self._progress.stop()

    def advance(self, done: float) -> None:
        if self._progress:
            self._progress.update(self._task, completed=done)

    def state(self, epoch: int, row: Mapping[str, float | None]) -> None:
        """Shows the numbers of a row of metrics.jsonl in the live line."""
        if self._progress:
            description = f"{self._job}epoch {epoch}" + (f"/{self._epochs}" if self._epochs else "")
            self._progress.update(self._task, description=description, state=live_text(row))

    def epoch(self, cells: Mapping[str, str]) -> None:
        """Prints one row of the epochs' table, under its header the first time; run.log has it too."""
        STORY.info("%s", ", ".join(f"{name} {cell}" for name, cell in cells.items()))
        if self._quiet:
            return
        widths = {name: max(len(name), 9) for name in cells}
        if not self._header:
            self._print(" | ".join(name.rjust(width) for name, width in widths.items()))
            self._header = True
        self._print(" | ".join(cells[name].rjust(width) for name, width in widths.items()))

    def _print(self, line: str) -> None:
        CONSOLE.print(f"{self._job}{line}", markup=False, highlight=False, soft_wrap=True)


def live_text(row: Mapping[str, float | None]) -> str:
    """`41.0 it/s loss 0.083 nfe 26+32 mem 1.2 GiB` from a row, without what the row lacks."""
    parts = []
    if step_ms := row.get("time/step_ms"):
        parts.append(f"{1000 / step_ms:.3g} it/s")
    if (loss := row.get("loss/train")) is not None:
        parts.append(f"loss {loss:.3g}")
    if (forward := row.get("nfe/forward")) is not None:
        backward = row.get("nfe/backward")
        parts.append(f"nfe {forward:.0f}" + (f"+{backward:.0f}" if backward is not None else ""))
    if (peak := row.get("memory/peak_mib")) is not None:
        parts.append(f"mem {peak / 1024:.1f} GiB" if peak >= 1024 else f"mem {peak:.0f} MiB")
    return " ".join(parts)
