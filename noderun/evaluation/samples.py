"""Draws from a trained generative model, and the way between two test examples through its latent space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noderun.data import Batch
from noderun.data.batch import joined
from noderun.models import Flow
from noderun.objectives.density import given
from noderun.training.setup import Setup

CHUNK = 1000  # examples that are drawn at a time


@torch.no_grad()
def draw(setup: Setup, n: int, seed: int, temperature: float = 1.0) -> Tensor:
    """n examples [n, *shape] in the units of the data; those of a flow from data to data start at test points.

    Raises ValueError if such a flow is given a temperature, or has fewer points to start from.
    """
    model: Any = setup.model
    generator = torch.Generator(setup.device).manual_seed(seed)
    batch = first_test_batches(setup, n)
    source = batch.source
    if source is None:
        counts = [CHUNK] * (n // CHUNK) + [n % CHUNK] * (n % CHUNK > 0)
        return torch.cat([model.sample(count, generator=generator, temperature=temperature) for count in counts])
    if temperature != 1:
        raise ValueError("temperature scales the normal that a flow starts from; this one starts from data")
    if n > len(source):
        raise ValueError(f"this flow starts from the test points of its source, of which there are {len(source)}")
    chosen = torch.randperm(len(source), generator=generator, device=setup.device)[:n]
    starts = replace(batch, inputs=in_own_units(model, source)).rows(chosen)
    parts = [starts.rows(slice(first, first + CHUNK)) for first in range(0, n, CHUNK)]
    return torch.cat([decoded(model, part.inputs, **given(part)) for part in parts])


def generates(model: nn.Module) -> bool:
    """Whether there is anything to draw samples with."""
    return callable(getattr(model, "sample", None))


@torch.no_grad()
def interpolate(setup: Setup, ends: tuple[int, int], n: int) -> Tensor:
    """n examples [n, *shape] from one test example to another, by their numbers, along the path between their codes.

    Codes in a normal are joined by an arc, on which their norms stay typical (White 2016); ValueError if the model does
    not encode, or if the test has no such example.
    """
    model = setup.model
    if not isinstance(model, Flow):
        raise ValueError(f"{type(model).__name__} has no codes to go between: between is of normalizing flows")
    batch = first_test_batches(setup, max(ends) + 1)
    if batch.targets is not None:
        raise ValueError("between: a flow given the class has a latent space for each, and no path between two of them")
    inputs = batch.inputs
    if max(ends) >= len(inputs):
        raise ValueError(f"between: the test has {len(inputs)} examples, numbered from 0; there is no {max(ends)}")
    start, end = model.encode(in_own_units(model, inputs[list(ends)]))[0]
    along = torch.linspace(0, 1, n).to(start)
    path = torch.stack([arc(start, end, s) for s in along])
    return decoded(model, path)


def arc(start: Tensor, end: Tensor, s: Tensor) -> Tensor:
    """The point at s in [0, 1] of the arc from start to end whose angle and norm change evenly."""
    norms = start.norm(), end.norm()
    cosine = ((start * end).sum() / (norms[0] * norms[1]).clamp(min=1e-12)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if float(angle.sin().abs()) < 1e-4:  # along one line
        return torch.lerp(start, end, s)
    direction = (torch.sin((1 - s) * angle) * start / norms[0] + torch.sin(s * angle) * end / norms[1]) / angle.sin()
    return torch.lerp(norms[0], norms[1], s) * direction


def in_own_units(model: nn.Module, x: Tensor) -> Tensor:
    """Points of the data as the flow's own units have them."""
    assert isinstance(model, Flow)
    return model.transform(x)[0]


def decoded(model: nn.Module, z: Tensor, **given: Tensor) -> Tensor:
    assert isinstance(model, Flow)
    return model.transform.inverse(model.decode(z, **given))


def first_test_batches(setup: Setup, n: int) -> Batch:
    """As many batches of the test as hold n examples, or all of them, as one."""
    found: list[Batch] = []
    for batch in setup.batches("test", 0, 0):
        found.append(batch)
        if sum(map(len, found)) >= n:
            break
    return joined(found)
