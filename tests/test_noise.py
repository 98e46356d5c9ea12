"""Numbers that are a function of (seed, index)."""

import pytest
import torch
from scipy import stats

from noderun import noise

INDEX = torch.arange(20_000)


def test_bits_are_those_of_splitmix64():
    """The first outputs of the reference generator seeded with 1234567."""
    state, golden = 1234567, noise.GOLDEN
    steps = torch.tensor([state]) + golden * torch.arange(1, 4)
    found = [int(x) % 2**64 for x in noise._mixed(steps)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("draw", [noise.normal, noise.rademacher])
def test_a_row_depends_on_seed_and_index_alone(draw):
    whole = draw(7, INDEX[:10], (3, 2))
    assert torch.equal(draw(7, torch.tensor([9, 0, 4]), (3, 2)), whole[[9, 0, 4]])
    assert not torch.equal(draw(8, INDEX[:10], (3, 2)), whole)


@pytest.mark.parametrize("repeats", [1, 3])
def test_shares_of_a_batch_draw_together_what_one_process_draws(repeats):
    """Of 7 examples, each with so many rows, along a dimension that is not the first."""

    def drawn(rows):
        torch.manual_seed(0)
        return noise.for_batch(torch.randn, (2, repeats * (rows.stop - rows.start), 3), torch.zeros(()), dim=1)

    whole = drawn(slice(0, 7)).unflatten(1, (repeats, 7))
    for rows in (slice(0, 3), slice(3, 7)):
        with noise.shared(7, rows):
            assert torch.equal(drawn(rows).unflatten(1, (repeats, -1)), whole[:, :, rows])
    assert not torch.equal(whole[:, :, :3], whole[:, :, 3:6])


def test_distributions():
    normal, signs = noise.normal(0, INDEX, (3,)), noise.rademacher(0, INDEX, (3,))
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 0.01
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 4 / signs.numel() ** 0.5
    correlations = torch.corrcoef(normal.T) - torch.eye(3)
    assert correlations.abs().max() < 4 / len(INDEX) ** 0.5
    neighbors = torch.corrcoef(torch.stack([normal[:-1, 0], normal[1:, 0]]))[0, 1]
    assert abs(neighbors) < 4 / len(INDEX) ** 0.5
