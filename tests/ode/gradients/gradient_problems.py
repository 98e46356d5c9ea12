"""A nonlinear non-autonomous field for every solver, and what a loss at several times makes of it."""

import torch
from torch import nn

import noderun
from noderun.ode.gradients import refusal

F64 = torch.float64
TS = torch.tensor([0.0, 0.13, 0.3, 0.4], dtype=F64)  # one on a step of 0.1, one inside, one that needs a short step


class Field(nn.Module):
    """dy/dt of a state [..., 2], or of a pair (q, p) for the methods that split it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.3, -1.1], [0.9, 0.2]], dtype=F64))
        self.bias = nn.Parameter(torch.tensor([0.4, -0.2], dtype=F64))

    def forward(self, t, y):
        if isinstance(y, tuple):
            q, p = y
            return torch.tanh(p @ self.weight) + 0.3 * torch.sin(3 * t), -torch.tanh(q + self.bias) * torch.cos(2 * t)
        return torch.tanh(y @ self.weight.T + self.bias * torch.cos(3 * t)) - 0.2 * y * y


def start(solver):
    y0 = torch.tensor([[0.7, -0.4]], dtype=F64)
    return (y0, y0.flip(-1) * 0.5) if noderun.SOLVERS[solver].symplectic else y0


def pairs(keep=lambda info: True):
    """(solver, gradient) of all that may go together."""
    every = noderun.SOLVERS.items()
    return [(s, g) for s, info in every if keep(info) for g in noderun.GRADIENTS if not refusal(s, g)]


def loss(ys):
    ys = torch.cat(ys, -1) if isinstance(ys, tuple) else ys
    weights = torch.linspace(0.5, 1.5, ys.numel(), dtype=ys.dtype).view_as(ys)
    return (ys * weights).sin().sum()


def gradients(solver, gradient, ts=TS, field=None, y0=None, **options):
    """dL/d(y0, theta) as one vector, and the solution."""
    field = field or Field()
    y0 = start(solver) if y0 is None else y0
    leaves = [x.clone().requires_grad_() for x in (y0 if isinstance(y0, tuple) else (y0,))]
    sol = noderun.solve(
        field, tuple(leaves) if len(leaves) > 1 else leaves[0], ts, solver=solver, gradient=gradient, **options
    )
    inputs = [*leaves, *(p for p in field.parameters() if p.requires_grad)]
    grads = torch.autograd.grad(loss(sol.ys), inputs)
    return torch.cat([g.reshape(-1) for g in grads]), sol


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()
