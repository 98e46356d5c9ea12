"""DistributedDataParallel: parameter gradients reach its reducer through autograd, like those of any layer."""

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


def worker(rank, folder):
    """The ranks meet at a file, for a port may be taken meanwhile, and none leaves while another still counts on it."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for gradient in MODES:
        model = nn.parallel.DistributedDataParallel(Model(gradient))
        model(samples(rank)).backward()
        torch.save([p.grad for p in model.parameters()], folder / f"{gradient}{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch was built without gloo")
def test_two_ranks_agree_on_the_mean_gradient(tmp_path):
    torch.multiprocessing.spawn(worker, (tmp_path,), nprocs=2)
    for gradient in MODES:
        model = Model("backprop")
        mean = sum(model(samples(rank)) for rank in range(2)) / 2
        expected = torch.autograd.grad(mean, list(model.parameters()))
        for rank in range(2):
            grads = torch.load(tmp_path / f"{gradient}{rank}.pt")
            assert all(torch.allclose(g, e, rtol=1e-4) for g, e in zip(grads, expected, strict=True)), gradient
