"""Signature paths: terms against iterated integrals by another way, labels, balance and the fixed draw."""

import itertools
import math

import pytest
import torch

from noderun.data import DataError
from noderun.data.signature import WORD, labeled_paths, signature, signature_term


@pytest.mark.parametrize("word", [WORD[:depth] for depth in (1, 2, 3, 4)])
def test_a_term_is_the_iterated_integral_over_the_simplex(word):
    """Of a polygon: the sum over rising tuples of pieces of the increments' product, over the factorials of ties."""
    torch.manual_seed(0)
    increments, n = torch.randint(-2, 3, (3, 5, 6)), len(word)
    expected = torch.zeros(3, dtype=torch.float64)
    for pieces in itertools.combinations_with_replacement(range(5), n):
        weight = math.prod(math.factorial(pieces.count(piece)) for piece in set(pieces))
        product = torch.stack([increments[:, piece, c] for piece, c in zip(pieces, word, strict=True)]).prod(0)
        expected += product.double() / weight
    torch.testing.assert_close(signature_term(increments, word).double() / math.factorial(n), expected)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_labels_are_balanced_and_are_those_of_the_paths(depth):
    batch = labeled_paths(2000, WORD[:depth], seed=0)
    assert batch.inputs.shape == (2000, 100, 6) and len(batch.targets) == 2000
    assert abs(float(batch.targets.float().mean()) - 0.5) < 4 * 0.5 / math.sqrt(2000)
    increments = (10 * batch.inputs).round().long().diff(dim=1)
    terms = signature_term(increments, WORD[:depth])
    assert (terms != 0).all() and torch.equal(terms > 0, batch.targets.bool())


def test_the_draw_is_fixed_and_the_test_is_another_one():
    one, two = signature(None, examples=50), signature(None, examples=50)
    assert torch.equal(one.train.inputs, two.train.inputs) and len(one.test) == 4000
    assert not torch.equal(one.train.inputs, one.test.inputs[:50])
    with pytest.raises(DataError, match="augment"):
        signature(None, augment=True)
