"""Garbage collection during start-up."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
