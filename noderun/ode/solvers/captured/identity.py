"""What a captured graph rests on: f, called without keeping it alive, and whatever Python reads in a call of it."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from noderun.ode.solvers.torch_internals import version_of

PLAIN = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device)
DEPTH = 8  # of nested containers and objects


def owner_of(f: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    """The object whose life f shares, and f as a function that is given the object."""
    if isinstance(f, types.MethodType):
        return f.__self__, f.__func__
    return f, lambda own, *inputs: own(*inputs)


class Weakly:
    """f without a reference that keeps it alive: its graphs live as long as it does, and not the other way round."""

    def __init__(self, f: Callable[..., Any]) -> None:
        own, self.call = owner_of(f)
        self.own: Callable[[], Any] = weakref.ref(own)

    def __call__(self, *inputs: Any) -> Any:
        return self.call(self.own(), *inputs)


def settings() -> tuple[Any, ...]:
    """torch's own settings that choose kernels."""
    cuda, cudnn = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    chosen = (cuda.fp32_precision, cudnn.conv.fp32_precision, cudnn.benchmark, cudnn.deterministic, cudnn.enabled)
    return (*chosen, torch.are_deterministic_algorithms_enabled())


def held(x: Any, depth: int = DEPTH) -> Any:
    """What a call of x reads, as a key: numbers and words by value, tensors by address, anything else by identity.

    A graph holds this as it was when it was captured, so that another key is another graph. Global variables, and what
    is nested deeper, are not seen.
    """
    if isinstance(x, PLAIN):
        return x
    if isinstance(x, Tensor):
        return id(x), x.data_ptr(), x.shape, x.stride(), x.dtype
    if depth == 0:
        return id(x)
    if isinstance(x, (tuple, list)):
        return type(x).__name__, tuple(held(part, depth - 1) for part in x)
    if isinstance(x, dict):
        return tuple((key if isinstance(key, PLAIN) else id(key), held(part, depth - 1)) for key, part in x.items())
    if isinstance(x, types.MethodType):
        return x.__func__.__code__, held(x.__self__, depth - 1)
    if isinstance(x, types.FunctionType):
        cells = tuple(held(cell.cell_contents, depth - 1) for cell in x.__closure__ or ())
        return x.__code__, cells, held(x.__defaults__, depth - 1)
    if isinstance(x, nn.Module):
        return id(x), held(vars(x), depth - 1)
    return id(x), held(getattr(x, "__dict__", None), depth - 1) if not isinstance(x, type) else None


def impurity(f: Any, call: Callable[[], Any], device: torch.device) -> str | None:
    """What a call of f does besides computing a value, which a replay must not do more often; None if nothing.

    What the call drew and wrote is undone.
    """
    module = getattr(f, "__self__", f)
    tensors = list(module.buffers()) if isinstance(module, nn.Module) else []
    values = [x.clone() for x in tensors]

    def state() -> list[Any]:
        generators = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
        return [[version_of(x) for x in tensors], [bytes(x.numpy()) for x in generators]]

    with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        before = state()
        call()
        changed = [then != now for then, now in zip(before, state(), strict=True)]
        if changed[0]:
            for x, value in zip(tensors, values, strict=True):
                x.copy_(value)
    return "it writes to its buffers" if changed[0] else "it draws random numbers" if changed[1] else None


def name_of(f: Any) -> str:
    """f as a message names it."""
    return str(getattr(f, "__qualname__", type(f).__qualname__))
