"""Depth doubled on the way: the same function at first, the optimizer's state carried over, resumable to the bit."""

import pytest
import torch

from noderun.config.schema import Data, Model, Optimizer, Scheduler, Settings, Trainer
from noderun.models import MODELS
from noderun.training.build import make_setup, train_run
from noderun.training.checkpoint import load_checkpoint
from noderun.training.isolation import isolated
from noderun.training.loop import train_step
from noderun.training.multilevel import MultiLevel

CPU = torch.device("cpu")


def settings(epochs=1, optimizer="sgd", options=None, **model):
    return Settings(
        data=Data("digits", limit=48, batch_size=16),
        model=Model("resnet", options={"width": 8, "blocks": 1, **model}),
        optimizer=Optimizer(optimizer, lr=0.05, options=options or {}),
        scheduler=Scheduler("constant"),
        trainer=Trainer(epochs=epochs, log_every=1),
        device="cpu",
        log="quiet",
    )


def test_a_step_scales_the_residual():
    torch.manual_seed(0)
    net = MODELS["resnet"]((1, 8, 8), 10, width=8, blocks=1, step=0.25)
    x = torch.randn(2, 8, 3, 3)
    half, whole = net.blocks[0], MODELS["resnet"]((1, 8, 8), 10, width=8, blocks=1).blocks[0]
    whole.load_state_dict(half.state_dict())
    torch.testing.assert_close(half(x) - x, 0.25 * (whole(x) - x))


@pytest.mark.parametrize("tied", [False, True])
def test_a_doubled_net_is_the_same_flow_in_half_the_steps(tied):
    torch.manual_seed(0)
    net = MODELS["resnet"]((1, 8, 8), 10, width=8, blocks=2, tied=tied, step=1e-3).double()
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    coarse = net.blocks(x)
    net.refine()
    fine = net.blocks(x)
    assert (fine - coarse).norm() < 1e-2 * (coarse - x).norm()
    assert not torch.equal(fine, coarse)


@pytest.mark.parametrize(("optimizer", "options"), [("sgd", {"momentum": 0.9}), ("adamw", {})])
def test_copies_take_over_the_state_of_the_optimizer_and_are_trained(optimizer, options):
    with isolated(CPU, 0):
        setup = make_setup(settings(optimizer=optimizer, options=options), CPU)
    batch = next(setup.batches("train", 0, 0))
    train_step(setup, batch, 0)
    MultiLevel(setup).double_depth(1)
    first, second = setup.model.blocks
    state = setup.optimizer.state
    for source, copy in zip(first.parameters(), second.parameters(), strict=True):
        for key, value in state[source].items():
            torch.testing.assert_close(state[copy][key], value)
            assert value is not state[copy][key] or not isinstance(value, torch.Tensor)
    before = [p.detach().clone() for p in second.parameters()]
    train_step(setup, batch, 1)
    assert all(not torch.equal(p, old) for p, old in zip(second.parameters(), before, strict=True))


def test_a_run_that_was_left_and_taken_up_deepens_to_the_same_bits(tmp_path):
    def train(folder, epochs):
        chosen = settings(epochs, options={"momentum": 0.9}, double_at=(1, 2))
        result = train_run(chosen, tmp_path / folder)
        return result["parameters"], load_checkpoint(tmp_path / folder / "checkpoint.pt")["model"]

    sizes = [train("in parts", epochs)[0] for epochs in (1, 2)]
    (size, parts), (_, whole) = train("in parts", 3), train("at once", 3)
    block = size - sizes[1]
    assert sizes[1] - sizes[0] == block / 2 > 0  # 1, 2, 4 blocks
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
