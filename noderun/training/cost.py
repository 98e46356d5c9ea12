"""What a first step would cost in memory, found before a run starts: gradients by tangents, and Newton's matrices."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from noderun.config.schema import Settings
from noderun.config.validation import Incompatible, warn_user

MANY = 500  # numbers in an example's state, from which an implicit step takes minutes: J is d products, LU is d^3


@dataclass
class Start(Exception):
    """The start of a solve, which ends the pass: examples, numbers in the state of each, numbers with a gradient."""

    examples: int
    size: int
    tangents: int


def check_cost(settings: Settings) -> None:
    """Raises Incompatible if a step of the first solve cannot be made, and warns of one that takes long.

    Only a solve whose cost grows with the square of a size is looked at; others cost what their calls of f cost.
    """
    from noderun.ode.gradients.forward import MOST_TANGENTS
    from noderun.training.build import make_method

    solver, gradient = settings.solver, settings.gradient
    if solver is None or settings.model.stochastic:
        return
    implicit = make_method(solver).info.implicit
    forward = gradient is not None and gradient.name == "forward"
    start = first_start(settings) if implicit or forward else None
    if start is None:
        return
    if forward and start.tangents > MOST_TANGENTS:
        raise Incompatible(
            f"gradient=forward would carry {start.tangents} tangents, one per parameter of f and number of y0; it "
            f"takes up to {MOST_TANGENTS}: use gradient=checkpointed, which is as exact"
        )
    if implicit and start.size >= MANY:
        check_jacobians(solver.name, start)


def check_jacobians(solver: str, start: Start) -> None:
    """Raises Incompatible if the Jacobians of a batch and their factors, in float32, exceed this machine's memory."""
    needed, there = 8 * start.examples * start.size**2, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    words = (
        f"solver={solver} is implicit: a Jacobian is {start.size} vector-Jacobian products of f, and those of "
        f"{start.examples} examples with their factors take at least {needed / 2**30:.1f} GiB"
    )
    if needed > there:
        raise Incompatible(f"{words}, of {there / 2**30:.1f} here: use an explicit solver such as solver=dopri5")
    warn_user(f"{words}; an explicit solver such as solver=dopri5 needs none")


def first_start(settings: Settings) -> Start | None:
    """Where the first solve of training starts; None if the data are not there or the model solves nothing."""
    from noderun.data import require
    from noderun.training.build import make_setup
    from noderun.training.isolation import isolated

    cpu = torch.device("cpu")
    try:
        if not settings.data.user_class:
            require(settings.data.name, settings.data.root)
        with isolated(cpu, settings.seed), torch.enable_grad():
            setup = make_setup(settings, cpu)
            for block in setup.blocks:
                block.solve = stop
            setup.values(next(setup.batches("train", 0, 0)))
    except Start as start:
        return start
    except Exception:  # training ends in it too, and says so in its folder
        return None
    return None


def stop(f: torch.nn.Module, y0: Any, ts: Any, **given: Any) -> None:
    """In place of a solve: raises Start."""
    from noderun.ode.solvers.nesting import tensors_in

    state = list(tensors_in(y0))
    examples = len(state[0])
    tangents = sum(x.numel() for x in (*state, *f.parameters()) if x.requires_grad)
    raise Start(examples, sum(y.numel() for y in state) // examples, tangents)
