"""What the memory suite reads off the gradient methods, against what each of them promises."""

import pytest

from noderun.benchmarks.memory import memory_rows

GROWS = {"backprop": 4.0, "checkpointed": 4.0, "symplectic": 4.0, "interpolated": 4.0}  # with four times the NFE


def test_held_bytes_grow_as_the_methods_say():
    found = {rows[0].contender: rows for rows in memory_rows("cpu", quick=True)}
    assert {"noderun backprop", "noderun adjoint", "noderun reversible"} <= found.keys()
    for name, (few, many) in found.items():
        assert many.nfe == pytest.approx(4 * few.nfe, rel=0.03)
        assert 0 <= few.held_mib <= few.peak_mib and 0 < many.peak_mib
        growth = GROWS.get(name.split()[1], 1.0)
        assert many.held_mib == pytest.approx(growth * few.held_mib, rel=0.15), name
        if growth == 1.0:
            assert many.peak_mib == pytest.approx(few.peak_mib, rel=0.01), name
