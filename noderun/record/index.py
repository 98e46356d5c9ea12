"""The index of the ledger: rows as they were read, so that a thousand folders need not be read each time.

It is never the truth. A row is used only if the files that it was read from are still the same ones, and an index that
is damaged, or that another version has written, is made anew.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from noderun.record import files
from noderun.record.metric import know_those_of

Row = dict[str, Any]
READ = (
    "",
    files.STATUS,
    files.RESULT,
    files.ENVIRONMENT,
    files.OWN_METRICS,
)  # "": the folder, as to which files it has


class Index:
    """Rows of folders under ``root``. ``read`` makes the row of a folder, ``source`` is the file of its code."""

    def __init__(self, root: Path, read: Callable[[Path], Row], source: str) -> None:
        self._root, self._read = root, read
        self._source = stamp(source)
        self._before = self._load()
        self._now: dict[str, Row] = {}

    def row(self, folder: Path) -> Row:
        """The row of a folder; raises what ``read`` raises."""
        name, stamps = str(folder.relative_to(self._root)), [stamp(os.path.join(folder, file)) for file in READ]
        entry = self._before.get(name)
        if entry and entry["stamps"] == stamps:
            know_those_of(folder)
        else:
            entry = {"stamps": stamps, "row": self._read(folder)}
        self._now[name] = entry
        return entry["row"] | {"folder": str(folder)}

    def save(self) -> None:
        """Keeps the rows that were asked for. Of several processes the last one wins; a read-only root has no index."""
        if self._now == self._before:
            return
        with suppress(OSError):
            handle, new = tempfile.mkstemp(prefix=files.INDEX, suffix=files.NEW, dir=self._root)
            try:
                with open(handle, "w") as file:
                    json.dump({"source": self._source, "rows": self._now}, file)
                os.replace(new, self._root / files.INDEX)
            except OSError:
                os.unlink(new)

    def _load(self) -> dict[str, Row]:
        path = self._root / files.INDEX
        try:
            content = json.loads(path.read_text()) if path.is_file() else {}
            same = content.get("source") == self._source
            return (
                {name: {"stamps": e["stamps"], "row": dict(e["row"])} for name, e in content["rows"].items()}
                if same
                else {}
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}


def stamp(path: str) -> list[int] | None:
    """What tells whether a file is the one that was read, None if there is none; of a link, the link's own."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return [found.st_ino, found.st_mtime_ns, found.st_size]
