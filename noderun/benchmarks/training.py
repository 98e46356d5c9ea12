"""The suite training: forward and backward passes of published models, and the ODE-Net's whole training step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noderun.benchmarks import libraries
from noderun.benchmarks.case import LIMIT, Case, Contenders, as_arrays, errors_of
from noderun.benchmarks.objectives import FFJORD, Block, LatentODE, Objective
from noderun.benchmarks.step import step_case
from noderun.ode.engine import solve
from noderun.ode.solvers import Solution

Ode = Callable[[nn.Module, Any, list[float], float], Any]  # (f, y0, ts, tol) -> ys
# a mode of differentiation -> what noderun and torchdiffeq have of it
MODES = {"backprop": (("backprop", "checkpointed"), "odeint"), "adjoint": (("adjoint",), "odeint_adjoint")}


def training_cases(device: str, quick: bool) -> Iterator[Case]:
    sizes: tuple[tuple[Callable[[int], Objective], int], ...] = ((Block, 128), (FFJORD, 512), (LatentODE, 1000))
    for make, batch in ((FFJORD, 8),) if quick else sizes:
        torch.manual_seed(0)
        objective = make(batch).to(device)
        for mode in MODES:
            yield pass_case(objective, mode)
    yield step_case(2 if quick else 128, device)


def pass_case(objective: Objective, mode: str) -> Case:
    """One forward and backward pass; the limit makes noderun's evaluations of f, and vjps, and nothing else."""
    contenders: Contenders = {name: partial(pulled, objective, ode) for name, ode in odes(mode).items()}
    nfe = counts(objective, mode)

    errors = errors_of(contenders, lambda: as_arrays(pulled(tight(objective), noderun_ode("checkpointed"))))
    name = f"{objective.name}, by {mode}, tol = {objective.tol:g}, NFE {nfe[0]} + {nfe[1]}"
    bounds: Contenders = {LIMIT: partial(bare, objective, *nfe)}
    if mode == "backprop":
        bounds["limit, graphs held"] = partial(bare, objective, *nfe, held=True)
    return Case("training", name, {**bounds, **contenders}, errors, 300 * objective.tol)


def odes(mode: str) -> dict[str, Ode]:
    ours, theirs = MODES[mode]
    found = {f"noderun {gradient}": noderun_ode(gradient) for gradient in ours}
    if libraries.installed()["torchdiffeq"]:
        import torchdiffeq

        integrate = getattr(torchdiffeq, theirs)
        found[f"torchdiffeq {mode}"] = lambda f, y0, ts, tol: integrate(
            f, y0, torch.tensor(ts).to(like(y0)), rtol=tol, atol=tol, method="dopri5"
        )
    return found


def noderun_ode(gradient: str) -> Ode:
    return lambda f, y0, ts, tol: solution(f, y0, ts, tol, gradient).ys


def solution(f: nn.Module, y0: Any, ts: list[float], tol: float, gradient: str) -> Solution:
    """With torchdiffeq's norm of a tuple, the largest of its items'."""
    return solve(f, y0, ts, rtol=tol, atol=tol, gradient=gradient, norm="items")


def like(y0: Any) -> Tensor:
    return y0[0] if isinstance(y0, tuple) else y0


def tight(objective: Objective) -> Objective:
    wide = copy.deepcopy(objective).double()
    wide.tol = 1e-3 * objective.tol
    return wide


def pulled(objective: Objective, ode: Ode) -> list[Tensor]:
    """dL/dtheta."""
    loss = objective.loss(ode(objective.f, objective.start(), objective.ts, objective.tol))
    return list(torch.autograd.grad(loss, list(objective.parameters())))


def counts(objective: Objective, mode: str) -> tuple[int, int]:
    """Evaluations without, and with a vjp, that the limit of this mode has."""
    found = solution(objective.f, objective.start(), objective.ts, objective.tol, mode)
    torch.autograd.grad(objective.loss(found.ys), list(objective.parameters()))
    forward, backward = int(found.stats.nfe_forward), found.stats.nfe_backward
    return (0, forward) if backward is None else (forward, int(backward))


def bare(objective: Objective, plain: int, pulls: int, held: bool = False) -> None:
    """Evaluations and their vjps, one by one; ``held``: all graphs at once, as in backprop."""
    y0, f, graphs = objective.start(), objective.f, []
    t = torch.zeros((), device=like(y0).device)
    for _ in range(plain):
        with torch.no_grad():
            f(t, y0)
    for _ in range(pulls):
        leaves = [y.detach().requires_grad_() for y in (y0 if isinstance(y0, tuple) else (y0,))]
        out = f(t, tuple(leaves) if isinstance(y0, tuple) else leaves[0])
        graphs.append((leaves, out if isinstance(out, tuple) else (out,)))
        if not held:
            pull(f, *graphs.pop())
    while graphs:
        pull(f, *graphs.pop())


def pull(f: nn.Module, leaves: list[Tensor], outs: tuple[Tensor, ...]) -> None:
    torch.autograd.grad(outs, [*leaves, *f.parameters()], [y.detach() for y in outs], allow_unused=True)
