"""metrics.jsonl: one JSON object per row, append-only, the source of truth of a run."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Metrics:
    """Appends rows. ``mark`` is what a checkpoint vouches for: opened with one, the file is cut behind those rows.

    Nothing that was written is written again, so a kill at any moment leaves the rows of the mark whole.
    Raises ValueError if they are not there as they were.
    """

    def __init__(self, path: Path, mark: Mapping[str, Any] | None = None) -> None:
        if mark and not path.exists():
            log.warning("%s is gone, and its %d rows with it; new rows begin the file again", path, mark["rows"])
            mark = None
        self._digest = check_rows(path, mark)
        begun: Mapping[str, int] = mark or {"rows": 0, "bytes": 0}
        self._rows, self._bytes = begun["rows"], begun["bytes"]
        self._file = path.open("ab", buffering=0)  # one write per row: a reader never waits for a full buffer
        self._file.truncate(self._bytes)

    def write(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        # JSON has no NaN: it becomes null
        values = {key: v if v is not None and math.isfinite(v) else None for key, v in row.items()}
        line = (json.dumps({"step": step, "epoch": epoch, **values}) + "\n").encode()
        written = self._file.write(line)
        if written != len(line):  # as much as there was room for
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        self._digest.update(line)
        self._rows, self._bytes = self._rows + 1, self._bytes + len(line)

    def mark(self) -> dict[str, Any]:
        """Vouches for the rows so far, which are on the disk then."""
        os.fsync(self._file.fileno())
        return {"rows": self._rows, "bytes": self._bytes, "sha256": self._digest.hexdigest()}

    def close(self) -> None:
        self._file.close()


def check_rows(path: Path, mark: Mapping[str, Any] | None) -> Any:
    """The SHA-256 (a hash object) of the rows that ``mark`` vouches for; ValueError unless they are as they were."""
    try:
        kept = path.read_bytes()[: mark["bytes"]] if mark and path.exists() else b""
    except OSError as error:  # a folder of that name, for one
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(kept)
    if mark and path.exists() and digest.hexdigest() != mark["sha256"]:
        raise ValueError(
            f"{path} has lost or changed some of the {mark['rows']} rows that the checkpoint vouches for; move it away "
            "to go on without them"
        )
    return digest


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of metrics.jsonl in order; ends at a line that was torn by a kill. ValueError if a row is damaged."""
    if not path.exists():
        return
    try:
        content = path.read_bytes()
    except OSError as error:  # a folder of that name, for one
        raise ValueError(error.strerror) from None
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from None
        if not (isinstance(row, dict) and all(type(row.get(key)) is int for key in ("step", "epoch"))):
            raise ValueError(f"line {number}: a row has a step and an epoch")
        yield row
