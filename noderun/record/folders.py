"""Folders that are made on trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path


@contextmanager
def tried(folder: Path) -> Iterator[None]:
    """Make a folder with its parents; those that did not exist before are removed again if they stay empty."""
    absent = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in absent:
            with suppress(OSError):
                path.rmdir()
