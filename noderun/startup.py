"""A start that does not look for garbage among what is there to stay."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Python's garbage collector rests inside, and passes over what was made inside from then on.

    Importing torch makes a million objects; looking through them again and again took a sixth of the time up to the
    first training step.
    """
    rested = not gc.isenabled()
    gc.collect()  # what an earlier run in this process left would else stay for good
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # the interpreter's end takes modules apart, and some complain of what is left
        if not rested:
            gc.enable()
