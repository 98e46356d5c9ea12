"""Folders that are made to see whether they can be, or for what may then not come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path


@contextmanager
def tried(folder: Path) -> Iterator[None]:
    """Makes a folder with its parents; those that were not there before go again where they stay empty."""
    absent = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in absent:
            with suppress(OSError):
                path.rmdir()
