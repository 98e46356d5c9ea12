"""metrics.jsonl: one JSON object a row, append-only, the source of truth of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Metrics:
    """Appends rows; what a killed run wrote beyond step ``last_step`` (a torn line too) is cut when opened."""

    def __init__(self, path: Path, last_step: int = -1) -> None:
        kept = "".join(f"{json.dumps(row)}\n" for row in read_metrics(path) if row["step"] <= last_step)
        path.write_text(kept)
        self._file = path.open("a", buffering=1)  # one write a row: a reader never waits for a full buffer

    def write(self, row: Mapping[str, float | None], step: int, epoch: int) -> None:
        # JSON has no NaN: a number that is none becomes null
        values = {key: v if v is not None and math.isfinite(v) else None for key, v in row.items()}
        self._file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of metrics.jsonl in order; ends at a line that was torn by a kill."""
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            return
        yield json.loads(line)
