"""The ODE-Net's whole training step, and an epoch of them, each library with the dynamics of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noderun.benchmarks import libraries
from noderun.benchmarks.case import Case, Contenders, Errors, as_arrays, errors_of
from noderun.benchmarks.objectives import ConcatConv
from noderun.config.schema import Data
from noderun.data import Dataset, batches, load
from noderun.dynamics.conv import Conv
from noderun.models.odenet import ODENet
from noderun.ode.engine import solve

TOL = 1e-3
MNIST = (1, 28, 28)
FEW = 32  # examples on which contenders have to agree
ALLOWED = 0.3  # relative error of the whole net's gradient, where each step may err by TOL
Batch = tuple[Tensor, Tensor]
Run = Callable[[nn.Module, Tensor], Tensor]  # (f, y0) -> y(1)


class Solved:
    """A solve in the form that the ODE block takes."""

    stats = None

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, f: nn.Module, y0: Tensor, ts: list[float]) -> Solved:
        self.ys = self.run(f, y0).unsqueeze(0)
        return self


def contenders(device: str, shape: tuple[int, ...] = MNIST) -> dict[str, nn.Module]:
    """Nets of the same weights: the other libraries with the concatenating f, noderun with its own."""
    nets = {
        f"noderun {gradient}": net(Conv, noderun_run(gradient), shape)
        for gradient in ("backprop", "checkpointed", "adjoint")
    }
    if libraries.installed()["torchdiffeq"]:
        import torchdiffeq

        for name, integrate in (("backprop", torchdiffeq.odeint), ("adjoint", torchdiffeq.odeint_adjoint)):
            nets[f"torchdiffeq {name}"] = net(ConcatConv, torchdiffeq_run(integrate), shape)
    return {name: each.to(device) for name, each in nets.items()}


def noderun_run(gradient: str, tol: float = TOL) -> Run:
    return lambda f, y0: solve(f, y0, [0.0, 1.0], rtol=tol, atol=tol, gradient=gradient).ys[-1]


def torchdiffeq_run(integrate: Callable[..., Tensor]) -> Run:
    return lambda f, y0: integrate(f, y0, torch.tensor([0.0, 1.0]).to(y0), rtol=TOL, atol=TOL, method="dopri5")[-1]


def net(dynamics: Any, run: Run, shape: tuple[int, ...] = MNIST) -> nn.Module:
    torch.manual_seed(0)
    return ODENet(shape, 10, dynamics, Solved(run))


def step_case(batch: int, device: str) -> Case:
    """One optimizer step; the first contender is the net without its block.

    At a rate of 0, so that the weights, and with them the work, are the same in every round.
    """
    nets = contenders(device)
    data = torch.rand(batch, *MNIST).to(device), torch.randint(10, (batch,)).to(device)
    few = data[0][:FEW], data[1][:FEW]
    plain = {"net without its block": net(Conv, lambda f, y0: y0).to(device)}
    steps: Contenders = {name: partial(stepper(each, lr=0.0), data) for name, each in (plain | nets).items()}
    name = f"ODE-Net, one training step, batch {batch}"
    return Case("training", name, steps, errors(nets, few), ALLOWED)


def epoch_cases(data: Data, device: str) -> Iterator[Case]:
    """All contenders' steps over the batches of one pipeline, with the rate and momentum of Chen et al. 2018."""
    dataset = load(data, device)
    nets = contenders(device, dataset.shape)
    name = f"ODE-Net, one epoch of {data.name}: {len(dataset.train)} examples, batch {data.batch_size}"

    def epoch(step: Callable[[Batch], float]) -> None:
        for images, labels in pairs(dataset, data.batch_size):
            step((images, labels))

    images, labels = next(pairs(dataset, FEW))
    epochs: Contenders = {each: partial(epoch, stepper(model, lr=0.1)) for each, model in nets.items()}
    yield Case("epoch", name, epochs, errors(nets, (images, labels)), ALLOWED, once=True)


def pairs(dataset: Dataset, size: int) -> Iterator[Batch]:
    """Training batches as (images, labels)."""
    for batch in batches(dataset, "train", size):
        assert batch.targets is not None
        yield batch.inputs, batch.targets


def errors(nets: dict[str, nn.Module], data: Batch) -> Errors:
    """Of the gradient, against a tight float64 solve."""
    wide = net(Conv, noderun_run("checkpointed", 1e-3 * TOL), data[0].shape[1:]).to(data[0].device).double()
    gradients = {name: partial(gradient, each, data) for name, each in nets.items()}
    return errors_of(gradients, lambda: as_arrays(gradient(wide, data)))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def gradient(model: nn.Module, batch: Batch) -> list[Tensor]:
    """dL/dtheta in the order of the parameters' names, which the two dynamics share."""
    images = batch[0].to(next(model.parameters()))
    parameters = [parameter for _, parameter in sorted(model.named_parameters())]
    return list(torch.autograd.grad(loss(model, (images, batch[1])), parameters))


def stepper(model: nn.Module, lr: float) -> Callable[[Batch], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        optimizer.step()
        return value.item()

    return step
