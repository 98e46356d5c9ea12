"""memory_saved_mib against counts by hand, memory_peak_mib against a block of known size."""

import types

import pytest
import torch
from torch import nn

from noderun.training.memory import PeakLedger, PeakMemory, saved_bytes

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
        raise NotImplementedError


def block(solve):
    dynamics = nn.Linear(1, N)  # its parameters are left out
    return types.SimpleNamespace(dynamics=dynamics, t1=1.0, solve=solve)


def solution(ys):
    return types.SimpleNamespace(ys=ys)


def test_held_by_a_gradient_method():
    solve = lambda f, y0, ts: solution(torch.stack([y0, Hoarder.apply(y0, f.weight)]))  # noqa: E731
    assert saved_bytes(block(solve), torch.ones(N)) == 2 * 4 * N  # `saved` and `attribute`, once each


@pytest.mark.parametrize("steps", [1, 5])
def test_saved_by_autograd(steps):
    def solve(f, y0, ts):
        y = y0
        for _ in range(steps):
            y = torch.exp(y)  # saves its result
        return solution(y)

    assert saved_bytes(block(solve), torch.zeros(N)) == (steps - 1) * 4 * N  # the last result is ys


def test_nothing_held_without_a_graph():
    solve = lambda f, y0, ts: solution((y0.detach() * 2 + 1).exp())  # noqa: E731
    assert saved_bytes(block(solve), torch.ones(N)) == 0


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


def test_peak_on_a_cpu_counts_from_its_start():
    peak = PeakMemory(torch.device("cpu"))
    large = torch.ones(32 * 2**20)  # 128 MiB
    peak.start()
    held = peak.read()
    del large
    peak.start()
    freed = peak.read()
    assert held - freed > 100
    del (_ := [torch.ones(32 * 2**20)])[:]
    assert peak.read() - freed > 100
