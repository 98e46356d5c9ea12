"""Nets that compute their activations again: gradients as autograd's, and memory that does not grow with depth."""

from functools import partial

import pytest
import torch

from noderun.models import MODELS
from noderun.models.lesion import block_count, lesions, without
from noderun.training.memory import StorageLedger

NETS = {
    "revnet": partial(MODELS["revnet"], width=8),
    "verlet": partial(MODELS["hamiltonian"], width=8, step=0.5),
    "leapfrog": partial(MODELS["hamiltonian"], width=8, step=0.5, scheme="leapfrog"),
}
SHAPE = (1, 12, 12)


def make(name, blocks=3):
    torch.manual_seed(0)
    return NETS[name](SHAPE, 10, blocks=blocks)


def plainly(chain, x):
    """The same chain as autograd sees it."""
    pair = x.chunk(2, dim=1)
    for block in chain:
        pair = block(pair)
    return torch.cat(pair, dim=1)


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_autograds_to_round_off(name):
    chain = make(name).double().blocks
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    found, expected = (
        [y, *torch.autograd.grad((y * weights).sum(), [x, *chain.parameters()])] for y in (chain(x), plainly(chain, x))
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_each_block_is_undone_by_its_inverse(name):
    chain = make(name).double().blocks
    pair = tuple(torch.randn(2, 2, 4, 3, 3, dtype=torch.float64))
    for block in chain:
        torch.testing.assert_close(block.inverse(block(pair)), pair, rtol=1e-12, atol=1e-12)


def held(chain):
    x = torch.randn(4, 8, 9, 9, requires_grad=True)
    with StorageLedger() as ledger:
        y = chain(x)
    return ledger.held_bytes(x, y, *chain.parameters())


@pytest.mark.parametrize("name", NETS)
def test_memory_does_not_grow_with_depth(name):
    shallow, deep = held(make(name, 2).blocks), held(make(name, 16).blocks)
    assert 0 < shallow == deep
    plain = [held(MODELS["resnet"](SHAPE, 10, width=8, blocks=blocks).blocks) for blocks in (2, 16)]
    assert plain[1] > 4 * plain[0] > 4 * shallow


def test_a_shared_block_gathers_its_gradients():
    chain = make("revnet", 1).double().blocks
    twice = type(chain)(chain[0], chain[0])
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    found = torch.autograd.grad(twice(x).square().sum(), list(twice.parameters()))
    expected = torch.autograd.grad(plainly(twice, x).square().sum(), list(twice.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_in_bf16_the_states_stay_float32():
    model = make("revnet")
    x = torch.rand(2, *SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        h = model.stem(x)
        y = model.blocks(h)
    assert y.dtype == torch.float32
    gradient = torch.autograd.grad(y.sum(), h)[0]
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["resnet", "plain", "revnet", "hamiltonian"])
def test_a_lesion_leaves_out_one_block_and_heals(name):
    torch.manual_seed(0)
    model = MODELS[name](SHAPE, 10, width=8, blocks=3)
    x = torch.rand(2, *SHAPE)
    whole = model(x)
    found = lesions(model, lambda: model(x))
    assert len(found) == block_count(model) == 3
    assert not any(torch.allclose(y, whole) for y in found)
    assert torch.equal(model(x), whole)
    if name == "resnet":
        h = model.stem(x)
        torch.testing.assert_close(found[1], model.head(model.blocks[2](model.blocks[0](h))))


def test_what_has_no_blocks_has_no_lesions():
    stem, tied = MODELS["stem"](SHAPE, 10, width=8), MODELS["resnet"](SHAPE, 10, width=8, tied=True)
    assert block_count(stem) == block_count(tied) == 0
    with pytest.raises(ValueError, match="has no blocks"), without(stem, 0):
        pass


def test_an_odd_state_cannot_be_split():
    with pytest.raises(ValueError, match="even C"):
        MODELS["revnet"](SHAPE, 10, width=7)
