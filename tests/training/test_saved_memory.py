"""memory_saved_mib against counts by hand, memory_peak_mib against a block of known size."""

import mmap

import pytest
import torch
from torch import nn

from noderun.data import Batch
from noderun.models import MODELS
from noderun.objectives import OBJECTIVES
from noderun.report.paper_values import memory_claim
from noderun.training.diagnostics import diagnose
from noderun.training.memory import PeakLedger, PeakMemory, saved_bytes
from noderun.training.setup import Setup

N = 1000  # floats in the state: 4,000 bytes


class Hoarder(torch.autograd.Function):
    """Keeps tensors in every way there is: saved, saved twice, in an attribute, as a view, and drops one."""

    @staticmethod
    def forward(ctx, y, w):
        saved, dropped, attribute = y * 2, y * 3, y * 4
        ctx.save_for_backward(saved, saved, y, w)
        ctx.views = [attribute[:10], attribute[10:20]]
        return saved + dropped

    @staticmethod
    def backward(ctx, grad):
        raise AssertionError("the memory is weighed without a backward pass")


def test_held_by_a_gradient_method():
    weight = nn.Parameter(torch.ones(N, 1))  # is left out
    run = lambda y0: torch.stack([y0, Hoarder.apply(y0, weight)])  # noqa: E731
    assert saved_bytes(run, torch.ones(N), [weight]) == 2 * 4 * N  # `saved` and `attribute`, once each


@pytest.mark.parametrize("steps", [1, 5])
def test_saved_by_autograd(steps):
    def run(y):
        for _ in range(steps):
            y = torch.exp(y)  # saves its result
        return y

    assert saved_bytes(run, torch.zeros(N), []) == (steps - 1) * 4 * N  # the last result is what is returned


def test_nothing_held_without_a_graph():
    assert saved_bytes(lambda y0: (y0.detach() * 2 + 1).exp(), torch.ones(N), []) == 0


def residual_net(name, blocks, **options):
    torch.manual_seed(0)
    return MODELS[name]((1, 8, 8), 10, width=8, blocks=blocks, **options)


def measured(net):
    """Bytes by the diagnostics of a run; four examples, whose state has 4 x 8 x 3 x 3 floats."""
    batch = Batch(torch.rand(4, 1, 8, 8), torch.arange(4))
    setup = Setup(net, [], OBJECTIVES["classify"](), None, None, None, 1, torch.device("cpu"))
    return round(diagnose(setup, batch)["memory/saved_mib"] * 2**20)


@pytest.mark.parametrize(("name", "options"), [("resnet", {}), ("plain", {}), ("resnet", {"tied": True})])
def test_a_residual_net_holds_what_autograd_saves_of_its_blocks(name, options):
    net, saved = residual_net(name, 3, **options), {}
    y0 = net.stem(torch.rand(4, 1, 8, 8)).detach()

    def note(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # held here, so no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y1 = net.blocks(y0.requires_grad_())
    for tensor in (y0, y1, *net.parameters()):
        saved.pop(tensor.untyped_storage().data_ptr(), None)
    assert measured(net) == sum(storage.nbytes() for storage in saved.values()) > 0


@pytest.mark.parametrize(
    ("name", "grows"), [("resnet", True), ("plain", True), ("revnet", False), ("hamiltonian", False)]
)
def test_the_claim_beside_it_is_true(name, grows):
    two, four, six = (measured(residual_net(name, blocks)) for blocks in (2, 4, 6))
    assert six - four == four - two
    assert (four > two) == grows and (memory_claim({"model": name}) == "O(L)") == grows


def test_a_net_without_depth_has_no_such_memory():
    net = MODELS["stem"]((1, 8, 8), 10, width=8)
    setup = Setup(net, [], OBJECTIVES["classify"](), None, None, None, 1, torch.device("cpu"))
    assert diagnose(setup, Batch(torch.rand(4, 1, 8, 8), torch.arange(4))) == {}


def test_peak_of_live_storages_is_exact():
    y0 = torch.ones(N)
    with PeakLedger(y0) as ledger:
        y = y0.view(2, -1) * 2  # one beside y0, whose views are its own
        z = torch.cat([y, y])  # three
        del y, z
        y = y0 * 3 + 1  # two, of which one goes at once
        held = y.exp() + y  # three: y, exp(y) and the sum
    assert ledger.peak == 3 * 4 * N
    assert ledger.held_bytes(y0) == 2 * 4 * N and held.numel() == N


def test_peak_counts_a_backward_pass():
    y0 = torch.ones(N, requires_grad=True)
    with PeakLedger(y0) as ledger:
        y1 = y0.exp()
        torch.autograd.grad(y1, y0, torch.ones(N))  # y1, the cotangent, their product
    assert ledger.peak == 3 * 4 * N


def resident(mib):
    """A block of its own pages: malloc may serve a large tensor from pages that earlier tests left resident."""
    block = mmap.mmap(-1, mib * 2**20)
    block.write(b"1" * len(block))
    return block


def test_peak_on_a_cpu_counts_from_its_start():
    peak = PeakMemory(torch.device("cpu"))
    large = resident(128)
    peak.start()
    held = peak.read()
    large.close()
    peak.start()
    freed = peak.read()
    assert held - freed > 100
    resident(128).close()
    assert peak.read() - freed > 100
