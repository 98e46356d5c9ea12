"""The activations that a setting can name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}

# name -> the derivative at x, where the activation is a
DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "elu": lambda x, a: torch.where(x > 0, torch.ones_like(a), a + 1),
    "identity": lambda x, a: torch.ones_like(a),
    "relu": lambda x, a: (x > 0).to(a),
    "sigmoid": lambda x, a: a * (1 - a),
    "silu": lambda x, a: a + torch.sigmoid(x) * (1 - a),
    "softplus": lambda x, a: torch.sigmoid(x),
    "tanh": lambda x, a: 1 - a.square(),
}


def activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
