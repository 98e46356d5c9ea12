"""What is said of work that takes longer than a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SOON = 1.0  # seconds in which most work ends
log = logging.getLogger(__name__)


def said_soon(level: int, words: str) -> threading.Timer:
    """Log the words after SOON seconds, unless the timer that is returned is canceled before."""
    notice = threading.Timer(SOON, log.log, [level, "%s", words])
    notice.daemon = True
    notice.start()
    return notice


@contextmanager
def announced(words: str) -> Iterator[None]:
    """Say what the work inside is, if it is still going on after SOON seconds."""
    notice = said_soon(logging.INFO, words)
    try:
        yield
    finally:
        notice.cancel()
