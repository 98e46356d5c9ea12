"""Tensors in tuples, lists and dicts of any depth, as arguments of f, states and tolerances hold them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def tensors_in(nested: Any) -> Iterator[Tensor]:
    """The tensors in order; anything else is passed over."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, tuple | list | dict):
        for item in nested.values() if isinstance(nested, dict) else nested:
            yield from tensors_in(item)


def map_tensors(function: Callable[[Tensor], Tensor], nested: Any) -> Any:
    """The same nesting, of the same types, with ``function`` of each tensor; anything else stays."""
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, dict):
        mapped = copy.copy(nested)
        mapped.update({key: map_tensors(function, value) for key, value in nested.items()})
        return mapped
    if isinstance(nested, tuple | list):
        items = [map_tensors(function, item) for item in nested]
        return type(nested)(*items) if hasattr(nested, "_fields") else type(nested)(items)  # a named tuple has fields
    return nested
