"""A start that does not look for garbage among what is there to stay."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Python's garbage collector rests inside, and if modules were imported passes over all there is from then on.

    Importing torch makes a million objects; looking through them again and again took a sixth of the time up to the
    first training step. Only modules are there to stay: set aside at every job, what the jobs before left would stay.
    """
    rested, modules = not gc.isenabled(), len(sys.modules)
    gc.collect()  # what an earlier run in this process left would else stay for good
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
            atexit.register(gc.unfreeze)  # the interpreter's end takes modules apart, and some complain of what is left
        if not rested:
            gc.enable()
