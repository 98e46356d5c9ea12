"""The trace of a field's Jacobian, exact or estimated; both can be differentiated, and called without autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import vjp, vmap

MOST_NUMBERS = 2**22  # of vectors that are pulled back at once


def exact_divergence(f: Any, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """f(t, y) and tr df/dy [B].

    In closed form if f has a method ``with_divergence(t, y)``, else by one vector-Jacobian product per dimension.
    """
    if hasattr(f, "with_divergence"):
        dy, trace = f.with_divergence(t, y)
        return dy, trace
    dy, pull = vjp(lambda y: f(t, y), y)[:2]
    dim = y[0].numel()
    basis = torch.eye(dim, dtype=dy.dtype, device=y.device).view(dim, 1, *y.shape[1:]).expand(dim, *y.shape)
    rows = vmap(lambda e: pull(e)[0], chunk_size=max(1, MOST_NUMBERS // y.numel()))(basis)
    return dy, rows.flatten(2).diagonal(dim1=0, dim2=2).sum(1)


def hutchinson(f: Any, t: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """f(t, y) and e^T df/dy e [B], whose mean over noise e of unit covariance is the trace (Hutchinson 1990)."""
    dy, pull = vjp(lambda y: f(t, y), y)[:2]
    (row,) = pull(noise.to(dy.dtype))
    return dy, (row * noise).flatten(1).sum(1)
