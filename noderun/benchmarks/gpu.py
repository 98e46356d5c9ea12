"""The suite gpu: the rows that docs/performance.md has for one card, each replayed, compiled and eager."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from noderun.benchmarks import problems
from noderun.benchmarks.case import Case
from noderun.benchmarks.cases import gradient_case, solve_case
from noderun.benchmarks.objectives import Block
from noderun.benchmarks.problems import Problem
from noderun.benchmarks.step import step_case

GRADIENTS = ("checkpointed", "adjoint", "backprop")


def gpu_cases(device: str, quick: bool) -> Iterator[Case]:
    """Solves without a gradient, forward and backward passes, and a training step."""
    batch = 2 if quick else 128
    torch.manual_seed(0)
    block = Block(batch).to(device)
    image = Problem(block.name, block.f, block.start().detach(), block.ts, block.tol)
    for problem in (image, problems.mlp(batch, 1e-6, device=device)):
        name = f"{problem.name}, tol = {problem.tol:g}" if problem is image else problem.name
        yield replace(solve_case(problem), suite="gpu", name=f"{name}, no gradient")
        yield replace(gradient_case(problem, GRADIENTS), suite="gpu", name=f"{name}, forward and backward")
    yield replace(step_case(batch, device), suite="gpu")
