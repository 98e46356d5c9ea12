"""The path: the same in any order, by sample; its law; its cost in memory."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from noderun import BrownianPath

UNEVEN = [0.0, 0.1, 0.15, 0.5, 0.500001, 1.0]
inside = st.floats(0.0, 1.0)


def queries(n):
    """Increments over cells, over several of them, and between times inside of cells."""
    generator = random.Random(0)
    grid = [i / n for i in range(n + 1)]
    own = list(zip(grid, grid[1:], strict=False))
    return (
        own
        + [tuple(sorted(generator.sample(grid, 2))) for _ in range(50)]
        + [(generator.random(), generator.random()) for _ in range(50)]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_order_of_queries_gives_the_same_bits(dtype):
    n, asked = 300, queries(300)
    times = [i / n for i in range(n + 1)]
    first = BrownianPath(times, (5, 3), seed=1, dtype=dtype)
    expected = {q: first(*q) for q in asked}
    for order in (asked[::-1], random.Random(1).sample(asked, len(asked))):
        again = BrownianPath(times, (5, 3), seed=1, dtype=dtype)
        assert all(torch.equal(again(*q), expected[q]) for q in order)
    assert all(torch.equal(first(t, s), -expected[s, t]) for s, t in asked)


def test_precisions_are_one_path():
    wide, narrow = (BrownianPath(UNEVEN, (7, 2), seed=3, dtype=d) for d in (torch.float64, torch.float32))
    for s, t in queries(20)[20:]:
        torch.testing.assert_close(narrow(s, t).double(), wide(s, t), atol=3e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(inside, inside, inside)
def test_increments_add_up_to_round_off(s, t, u):
    path = BrownianPath(UNEVEN, (3, 2), seed=2, dtype=torch.float64)
    torch.testing.assert_close(path(s, t) + path(t, u), path(s, u), atol=1e-14, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6), inside, inside)
def test_a_sample_depends_on_its_index_alone(index, s, t):
    alone = [BrownianPath(UNEVEN, (1, 3), index=torch.tensor([i]), seed=4)(s, t)[0] for i in index]
    assert torch.equal(
        BrownianPath(UNEVEN, (len(index), 3), index=torch.tensor(index), seed=4)(s, t), torch.stack(alone)
    )


@pytest.mark.parametrize(("s", "t"), [(0.0, 0.1), (0.0, 1.0), (0.2, 0.21), (0.3, 0.77), (0.123, 0.124)])
def test_an_increment_is_normal_with_variance_t_minus_s(s, t):
    increments = BrownianPath(UNEVEN, (20_000, 2), seed=5, dtype=torch.float64)(s, t)
    assert stats.kstest(increments.flatten().numpy() / (t - s) ** 0.5, "norm").pvalue > 0.01


def test_increments_over_disjoint_intervals_are_independent():
    path = BrownianPath(UNEVEN, (40_000, 2), seed=6, dtype=torch.float64)
    ends = [0.0, 0.05, 0.1, 0.2, 0.23, 0.3, 0.5, 0.8, 1.0]
    parts = torch.cat([path(s, t) for s, t in zip(ends, ends[1:], strict=False)], dim=1)
    correlations = torch.corrcoef(parts.T) - torch.eye(parts.shape[1])
    assert correlations.abs().max() < 4.5 / len(parts) ** 0.5


def test_another_seed_is_another_path():
    one, two = (BrownianPath(UNEVEN, (1000, 2), seed=s)(0.0, 1.0) for s in (0, 1))
    assert abs(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]) < 4 / 2000**0.5


def test_memory_does_not_grow_with_the_number_of_queries():
    path = BrownianPath([i / 10_000 for i in range(10_001)], (1024, 4))

    def held():
        return sum(rows.numel() for rows, _ in path.blocks.values()) + sum(x.numel() for x in path.inside.values())

    sizes = []
    for i in range(0, 10_000, 37):
        path(i / 10_000, (i + 1) / 10_000)
        path(i / 10_000, (i + 0.5) / 10_000)
        sizes.append(held())
    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2]) <= 2**19 + 4 * 4096


def test_bad_times():
    with pytest.raises(ValueError, match="strictly rising"):
        BrownianPath([0.0, 0.0], (1,))
    with pytest.raises(ValueError, match=r"t = 1.5 is outside of \[0, 1\]"):
        BrownianPath([0.0, 1.0], (1,))(0.0, 1.5)
    with pytest.raises(ValueError, match="levels is 0"):
        BrownianPath([0.0, 1.0], (1,), levels=0)


def test_inference_mode_leaves_a_path_that_autograd_can_use():
    path = BrownianPath(UNEVEN, (2, 2))
    with torch.inference_mode():
        path(0.0, 0.1)
    y = torch.ones(2, 2, requires_grad=True)
    (y * path(0.0, 0.1) + y * path(0.1, 0.12)).sum().backward()
    assert torch.equal(y.grad, path(0.0, 0.1) + path(0.1, 0.12))
