"""A small learnable problem for the loop: two blobs, an ODE block between two linear layers."""

from dataclasses import replace

import torch
from torch import nn

from noderun.config.schema import Data, Dynamics, Gradient, Model, Optimizer, Scheduler, Settings, Solver, Trainer
from noderun.data import Batch, Classes, Dataset, Values, batch_count, batches
from noderun.models import ODEBlock
from noderun.objectives import OBJECTIVES
from noderun.ode.configured import ConfiguredSolve
from noderun.training.optimization import make_optimizer, one_cycle
from noderun.training.setup import Setup

SIZE, EXAMPLES = 8, 44  # six batches an epoch, the last one partial


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 4)

    def forward(self, t, y):
        return torch.tanh(self.net(y)) * (1 + t)


def noisy(batch, generator):
    if generator is None:
        return batch
    noise = 0.1 * torch.randn(batch.inputs.shape, generator=generator)
    return replace(batch, inputs=batch.inputs + noise)


def blobs(objective="classify"):
    generator = torch.Generator().manual_seed(5)
    classes = torch.arange(EXAMPLES) % 2
    inputs = torch.randn(EXAMPLES, 3, generator=generator) + 2.0 * classes[:, None]
    targets = classes if objective == "classify" else inputs.sum(1, keepdim=True).expand(-1, 2).contiguous()
    target = Classes(2) if objective == "classify" else Values((2,))
    return Dataset("blobs", (3,), target, Batch(inputs, targets), Batch(inputs[:20], targets[:20]), noisy)


def make_setup(
    solved=True, dropout=0.2, objective="classify", bf16=False, gradient="adjoint", solver="dopri5", field=Field
):
    """Draws its weights from torch's generator, as build does."""
    data = blobs(objective)
    solve = ConfiguredSolve(solver=solver, rtol=1e-3, atol=1e-3, gradient=gradient)
    block = ODEBlock(field(), solve)
    depth = block if solved else nn.Tanh()
    model = nn.Sequential(nn.Linear(3, 4), depth, nn.Dropout(dropout), nn.Linear(4, 2))
    factor = one_cycle(batch_count(data, "train", SIZE), horizon=3)
    return Setup(
        model=model,
        blocks=[block] if solved else [],
        objective=OBJECTIVES[objective](),
        optimizer=make_optimizer("adamw", model, 1e-2, 0.01, {}),
        lr_schedule=lambda step: 1e-2 * factor(step),
        batches=lambda split, epoch, start: batches(data, split, SIZE, 0, epoch, start),
        steps_per_epoch=batch_count(data, "train", SIZE),
        device=torch.device("cpu"),
        bf16=bf16,
    )


def make_settings(epochs=3, **trainer):
    return Settings(
        data=Data("blobs", batch_size=SIZE),
        model=Model("odenet", uses=("dynamics", "solver", "gradient")),
        optimizer=Optimizer("adamw", lr=1e-2),
        scheduler=Scheduler("one_cycle", horizon=3),
        trainer=Trainer(**{"epochs": epochs, "log_every": 4, **trainer}),
        dynamics=Dynamics("mlp"),
        solver=Solver("dopri5"),
        gradient=Gradient("adjoint"),
        device="cpu",
        log="quiet",
    )
