"""The collector rests while a run is set up, and loses nothing by it."""

import gc
import weakref

import pytest

from noderun.startup import without_collection


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


def test_garbage_from_before_goes_and_what_was_made_inside_is_passed_over():
    before = weakref.ref(Knot())
    with without_collection():
        made = [Knot() for _ in range(100)]
    assert before() is None and gc.get_freeze_count() >= 100
    later = weakref.ref(Knot())
    gc.collect()
    assert later() is None and made
