"""The signals that ask a process to stop, deferred to a moment at which a run can be saved."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from noderun.record.notice import said_soon

# Ctrl-C, the end of a job, the end of a terminal, and what Slurm sends before it ends a job
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Interrupts:
    """Inside, a signal sets ``pending``, and ``check`` raises KeyboardInterrupt; a second Ctrl-C does so at once.

    After that all of them are ignored up to the end, so that nothing stops a run that is being saved.
    """

    def __init__(self) -> None:
        self.pending = False
        self._at_once = False
        self._obeyed = False
        self._first: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._notice: threading.Timer | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
            heard = [s for s in STOPPING if signal.getsignal(s) is not signal.SIG_IGN]  # nohup ignores SIGHUP
            self._before = {s: signal.signal(s, self._note) for s in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        self._cancel_notice()

    def check(self) -> None:
        if self.pending:
            self._obey()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, work that changes nothing is left in its middle."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.pending = self.pending, True
        self._first = self._first or number
        if not self._obeyed and (self._at_once or (again and number == signal.SIGINT)):
            self._obey()
        elif not again:
            self._notice = said_soon(logging.WARNING, "stopping after this step; Ctrl-C again stops now")

    def _cancel_notice(self) -> None:
        if self._notice is not None:
            self._notice.cancel()

    def _obey(self) -> None:
        self._cancel_notice()
        self._at_once, self._obeyed = False, True
        raise KeyboardInterrupt(self._first)  # who asked: Slurm's warning is answered by another start
