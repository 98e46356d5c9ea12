"""Fixtures of several folders."""

import logging
import sys

import pytest


@pytest.fixture(scope="module")
def restored_process():
    """Undo what Hydra, or the import of a user's module, does to the process."""
    root, path = logging.getLogger(), list(sys.path)
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    sys.path[:] = path
