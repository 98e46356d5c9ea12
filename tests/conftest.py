"""Fixtures of several folders."""

import gc
import logging
import signal
import sys

import pytest
import torch
from command_lines import Warm

from noderun.report import style


def pytest_configure():
    gc.set_threshold(50_000, 20, 100)  # the search for cycles took a tenth of the time of the tests


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard():
    """A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        absent = pytest.mark.skip(reason="this machine has no CUDA device")
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(absent)


@pytest.fixture(scope="session")
def warm():
    """Runs command lines as whole processes without the seconds of their imports."""
    warm = Warm()
    yield warm
    warm.close()


@pytest.fixture(scope="module")
def restored_process():
    """Undo what Hydra, or the import of a user's module, does to the process."""
    root, path = logging.getLogger(), list(sys.path)
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    sys.path[:] = path


@pytest.fixture(scope="session", autouse=True)
def figures_are_quick():
    """Figures are drawn coarse, and without the search for a layout that leaves room for every letter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.STYLE, "figure.constrained_layout.use", False)
        patch.setitem(style.STYLE, "savefig.dpi", 50)
        yield


@pytest.fixture
def waits(monkeypatch):
    """The places where a host would wait for a device."""
    found = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, original=original, name=name, **options):
            found.append(name)
            return original(self, *args, **options)

        monkeypatch.setattr(torch.Tensor, name, counted)
    return found
