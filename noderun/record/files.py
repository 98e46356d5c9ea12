"""The names of the files in a run's folder. Writers take them from here; a fresh start deletes no others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

HYDRA = ".hydra"  # config.yaml, overrides.yaml, hydra.yaml
LOCK = ".lock"
LOG = "run.log"
STATUS = "status.json"
ENVIRONMENT = "environment.json"
RESULT = "result.json"
OWN_METRICS = "own_metrics.json"  # of an objective of the user's
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
EVENTS = "events.out.tfevents.*"
FIGURES = "figures"
EVALUATE = "evaluate"
REPORT = "report.html"
RESULTS = "results.csv"
BENCH = "bench.json"
TABLES = "tables.md"
SAMPLES = "samples.npz"
INTERPOLATION = "interpolation.npz"

NEW = ".new"  # ends the name of a file until it is whole
OF_A_START = frozenset({HYDRA, LOCK, LOG})  # exist before a run has a status
NAMES = (
    *(HYDRA, LOCK, LOG, STATUS, ENVIRONMENT, RESULT, OWN_METRICS, METRICS, CHECKPOINT, EVENTS),
    *(FIGURES, EVALUATE, REPORT, RESULTS, BENCH, TABLES, SAMPLES, INTERPOLATION),
)


def is_ours(name: str) -> bool:
    """Whether a run writes a file or folder of that name into its folder."""
    return any(fnmatchcase(name.removesuffix(NEW), pattern) for pattern in NAMES)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose file replaces ``path`` at the end: a reader or a kill never meets half a file."""
    new = path.with_name(path.name + NEW)
    yield new
    os.replace(new, path)
