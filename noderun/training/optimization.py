"""Optimizers and learning-rate schedules.

A schedule is a pure function step -> factor of the base learning rate, so a resumed run needs only its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


def lbfgs(params: Any, lr: float, weight_decay: float = 0.0, iterations: int = 10, history: int = 20) -> Optimizer:
    return torch.optim.LBFGS(params, lr, iterations, history_size=history, line_search_fn="strong_wolfe")


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lbfgs": lbfgs,
}

Schedule = Callable[[int], float]


def constant(steps_per_epoch: int, horizon: int | None) -> Schedule:
    return lambda step: 1.0


def step(
    steps_per_epoch: int, horizon: int | None, milestones: Sequence[float] = (60, 100, 140), gamma: float = 0.1
) -> Schedule:
    """Times gamma at each milestone (epochs); the defaults are those of Chen et al. 2018 for MNIST."""
    return lambda step: gamma ** sum(step >= milestone * steps_per_epoch for milestone in milestones)


def cosine(steps_per_epoch: int, horizon: int, floor: float = 0.0, restarts: Sequence[float] = ()) -> Schedule:
    """Half a cosine from 1 down to ``floor`` at the horizon and there beyond it (Loshchilov and Hutter 2017).

    It starts anew at each of ``restarts`` (epochs), each time down to the floor at the next.
    """
    starts = [0.0, *sorted(epoch for epoch in restarts if epoch < horizon)]
    ends = [*starts[1:], horizon]

    def factor(step: int) -> float:
        cycle = sum(step >= start * steps_per_epoch for start in starts[1:])
        first, last = starts[cycle] * steps_per_epoch, ends[cycle] * steps_per_epoch
        return _anneal(1.0, floor, min((step - first) / (last - first), 1.0))

    return factor


def one_cycle(
    steps_per_epoch: int, horizon: int, warmup: float = 0.3, start: float = 1 / 25, end: float = 1 / 25e4
) -> Schedule:
    """Cosine up from ``start`` over the fraction ``warmup``, cosine down to ``end`` (Smith and Topin 2018)."""
    last = max(horizon * steps_per_epoch - 1, 1)
    peak = max(warmup * (last + 1) - 1, 0.0)

    def factor(step: int) -> float:
        if step < peak:
            return _anneal(start, 1.0, step / peak)
        return _anneal(1.0, end, min((step - peak) / (last - peak), 1.0))

    return factor


def _anneal(first: float, last: float, fraction: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * fraction))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one_cycle": one_cycle,
}


def halved(schedule: Schedule, times: int) -> Schedule:
    return lambda step: schedule(step) / 2**times


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def make_optimizer(name: str, model: nn.Module, lr: float, weight_decay: float, options: dict[str, Any]) -> Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return OPTIMIZERS[name](parameters, lr=lr, weight_decay=weight_decay, **options)


def import_compiler() -> None:
    """Import torch's compiler, a thousand modules, as the first optimizer would: before there is any model."""
    torch.optim.SGD([torch.zeros(1)])
