"""What a process finds out and sets when it starts: its rank among others, garbage collection."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def rank_of_torchrun() -> int | None:
    """This process's rank among several that torchrun, or the first of them, has started; None if it is alone."""
    several = {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() and os.environ.get("WORLD_SIZE", "1") != "1"
    return int(os.environ["RANK"]) if several else None


@contextmanager
def without_collection() -> Iterator[None]:
    """Disable garbage collection inside; if modules were imported, later collections skip the objects alive by then.

    Importing torch makes a million objects, and searching them again and again took a sixth of the time up to the first
    training step. Nothing is frozen if nothing was imported: that would keep the garbage of earlier jobs for good.
    """
    disabled, modules = not gc.isenabled(), len(sys.modules)
    gc.collect()  # or freezing would keep what an earlier run in this process left
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
            atexit.register(gc.unfreeze)  # at exit some modules complain of objects that were never collected
        if not disabled:
            gc.enable()
