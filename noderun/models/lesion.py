"""Lesions: a trained net with one block taken out (Veit et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

Measured = TypeVar("Measured")


def block_count(model: nn.Module) -> int:
    """The number of blocks that a lesion can remove; 0 if the model is not a chain of blocks with their own weights."""
    blocks = getattr(model, "blocks", None)
    return len(blocks) if isinstance(blocks, nn.Sequential) else 0


@contextmanager
def without(model: nn.Module, block: int) -> Iterator[None]:
    """Inside, the model is run as if ``block`` passed on what it is given."""
    count = block_count(model)
    if not count:
        raise ValueError(f"{type(model).__name__} has no blocks that could be removed; resnet, plain and revnet have")
    if not 0 <= block < count:
        raise ValueError(f"no block {block}; the model has 0 to {count - 1}")
    whole = model.blocks
    assert isinstance(whole, nn.Sequential)
    model.blocks = type(whole)(*(kept for i, kept in enumerate(whole) if i != block))
    try:
        yield
    finally:
        model.blocks = whole


def lesions(model: nn.Module, measure: Callable[[], Measured]) -> list[Measured]:
    """The results of ``measure`` with each block removed in turn."""
    found = []
    for block in range(block_count(model)):
        with without(model, block):
            found.append(measure())
    return found
