"""The names of the files in a run's folder. Writers take them from here; a fresh start deletes no others."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

HYDRA = ".hydra"  # config.yaml, overrides.yaml, hydra.yaml
LOCK = ".lock"
LOG = "run.log"
COMMAND = "command.txt"  # of a grid
STATUS = "status.json"
ENVIRONMENT = "environment.json"
RESULT = "result.json"
OWN_METRICS = "own_metrics.json"  # of an objective of the user's
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"  # used if the newest one is damaged
EVENTS = "events.out.tfevents.*"
SERVICES = "services.json"  # by which id a tracking service knows the run
WANDB = "wandb"
PROFILE = "profile.csv"
TRACE = "trace.json"
FIGURES = "figures"
EVALUATE = "evaluate"
REPORT = "report.html"
RESULTS = "results.csv"
BENCH = "bench.json"
TABLES = "tables.md"
SAMPLES = "samples.npz"
INTERPOLATION = "interpolation.npz"
INDEX = ".index.json"  # of the folder that the ledger was asked for
QUEUE = "queue.json"  # of a grid: run -> number of its job on a cluster
SUBMITIT = ".submitit"  # of a grid: what submitit needs, and what its jobs print

NEW = ".new"  # ends the name of a file until it is whole
OF_A_START = frozenset({HYDRA, LOCK, LOG})  # exist before a run has a status
NAMES = (
    *(HYDRA, LOCK, LOG, STATUS, ENVIRONMENT, RESULT, OWN_METRICS, METRICS, CHECKPOINT, PREVIOUS, EVENTS),
    *(SERVICES, WANDB, PROFILE, TRACE),
    *(COMMAND, FIGURES, EVALUATE, REPORT, RESULTS, BENCH, TABLES, SAMPLES, INTERPOLATION, INDEX, QUEUE, SUBMITIT),
)


def is_ours(name: str) -> bool:
    """Whether a run writes a file or folder of that name into its folder."""
    return any(fnmatchcase(name.removesuffix(NEW), pattern) for pattern in NAMES)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose file replaces ``path`` at the end: no reader, kill or power cut leaves half a file.

    If writing fails, ``path`` is as it was, and the room that the new file took is free again.
    """
    new = path.with_name(path.name + NEW)
    new.unlink(missing_ok=True)  # what a kill has left; never written through if it is a link
    try:
        yield new
        sync(new)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a folder on a file system that has nothing to bring
            raise
    finally:
        os.close(handle)
