"""The collector rests while a run is set up, and loses nothing by it."""

import gc
import importlib
import weakref

import pytest

from noderun.config.startup import without_collection


class Knot:
    def __init__(self):
        self.itself = self


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()


def test_the_collector_rests_inside_and_works_again_after():
    with pytest.raises(KeyError), without_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_garbage_from_before_goes_and_what_an_import_made_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "thousand.py").write_text("KNOTS = [[i] for i in range(1000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = weakref.ref(Knot())
    frozen = gc.get_freeze_count()
    with without_collection():
        importlib.import_module("thousand")
    assert before() is None and gc.get_freeze_count() >= frozen + 1000
    later = weakref.ref(Knot())
    gc.collect()
    assert later() is None


def test_what_is_made_without_an_import_is_a_jobs_and_goes_with_it():
    frozen = gc.get_freeze_count()
    with without_collection():
        inside = weakref.ref(Knot())
    gc.collect()
    assert inside() is None and gc.get_freeze_count() <= frozen
