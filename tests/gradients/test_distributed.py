"""DistributedDataParallel: parameter gradients reach its reducer through autograd, like those of any layer."""

import os
import socket

import pytest
import torch
from gradient_problems import F64, TS, Field, loss
from torch import nn

import noderun

MODES = ("checkpointed", "adjoint", "interpolated", "symplectic", "backprop", "forward")


class Model(nn.Module):
    def __init__(self, gradient):
        super().__init__()
        self.field, self.gradient = Field(), gradient

    def forward(self, y0):
        return loss(noderun.solve(self.field, y0, TS, gradient=self.gradient, rtol=1e-8, atol=1e-8).ys)


def samples(rank):
    return torch.tensor([[0.7, -0.4], [0.1, 0.9]], dtype=F64)[rank : rank + 1]


def worker(rank, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    for gradient in MODES:
        model = nn.parallel.DistributedDataParallel(Model(gradient))
        model(samples(rank)).backward()
        torch.save([p.grad for p in model.parameters()], folder / f"{gradient}{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch was built without gloo")
def test_two_ranks_agree_on_the_mean_gradient(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, tmp_path), nprocs=2)
    for gradient in MODES:
        model = Model("backprop")
        mean = sum(model(samples(rank)) for rank in range(2)) / 2
        expected = torch.autograd.grad(mean, list(model.parameters()))
        for rank in range(2):
            grads = torch.load(tmp_path / f"{gradient}{rank}.pt")
            assert all(torch.allclose(g, e, rtol=1e-4) for g, e in zip(grads, expected, strict=True)), gradient
