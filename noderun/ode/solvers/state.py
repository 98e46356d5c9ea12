"""A state of any nesting as one flat vector, so that every solver sees y [N]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.nesting import map_tensors


@dataclass(frozen=True)
class Layout:
    """The map between a flat vector [N] and a tensor, a tuple or a dict of tensors."""

    shapes: tuple[torch.Size, ...]
    sizes: tuple[int, ...]
    rebuild: Callable[[list[Tensor]], Any]
    keys: tuple[str, ...] | None  # of a dict
    single: bool
    pairs: bool = False  # complex tensors lie in a real vector, as pairs of a real and an imaginary part

    @staticmethod
    def of(state: Any) -> Layout:
        """The layout of ``state``; TypeError unless it is a tensor, or a tuple or dict of tensors of one dtype."""
        if isinstance(state, Tensor):
            return Layout((state.shape,), (state.numel(),), lambda parts: parts[0], None, True)
        if isinstance(state, dict) and state:
            keys = tuple(state)
            return _nested(list(state.values()), lambda parts: dict(zip(keys, parts, strict=True)), keys)
        if isinstance(state, (tuple, list)) and len(state):
            return _nested(list(state), tuple, None)
        raise TypeError(f"a state is a tensor, or a tuple or dict of tensors, not {type(state).__name__}")

    def as_pairs(self) -> Layout:
        """For a complex state and a solver of real equations."""
        shapes = tuple(torch.Size((*shape, 2)) for shape in self.shapes)
        sizes = tuple(2 * size for size in self.sizes)

        def rebuild(parts: list[Tensor]) -> Any:
            return self.rebuild([torch.view_as_complex(part) for part in parts])

        return Layout(shapes, sizes, rebuild, self.keys, self.single, True)

    def leaves(self, state: Any, what: str = "f returned") -> list[Tensor]:
        """The tensors of a state in this layout's order; ValueError if shapes differ from it."""
        if self.pairs:
            state = map_tensors(paired, state)
        if self.single:
            if isinstance(state, Tensor) and state.shape == self.shapes[0]:
                return [state]
            leaves = [state]
        elif self.keys is not None:
            same = isinstance(state, dict) and set(state) == set(self.keys)
            leaves = [state[key] for key in self.keys] if same else []
        else:
            leaves = list(state) if isinstance(state, (tuple, list)) else []
        shapes = tuple(leaf.shape if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in leaves)
        if shapes != self.shapes:
            raise ValueError(f"{what} {describe(shapes)} for a state of {describe(self.shapes)}; they must be equal")
        return leaves

    def flatten(self, state: Any, what: str = "f returned") -> Tensor:
        """[N], a view if the state is one contiguous tensor; ``what`` begins the error message if shapes differ."""
        leaves = self.leaves(state, what)
        return leaves[0].reshape(-1) if self.single else torch.cat([leaf.reshape(-1) for leaf in leaves])

    def split(self, flat: Tensor) -> list[Tensor]:
        """Views of flat [..., N] with the leaves' shapes behind the leading dimensions."""
        lead = flat.shape[:-1]
        if self.single:
            return [flat.view((*lead, *self.shapes[0]))]
        parts = flat.split(self.sizes, dim=-1)
        return [part.reshape((*lead, *shape)) for part, shape in zip(parts, self.shapes, strict=True)]

    def unflatten(self, flat: Tensor) -> Any:
        if self.single and flat.dim() == 1 and not self.pairs:
            shape = self.shapes[0]
            return flat.view(*shape) if shape else flat.view(())  # a torch.Size is taken apart far more slowly
        return self.rebuild(self.split(flat))


def paired(x: Tensor) -> Tensor:
    """[..., 2]: the real and the imaginary part."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else torch.stack((x, torch.zeros_like(x)), dim=-1)


def _nested(leaves: list[Any], rebuild: Callable[[list[Tensor]], Any], keys: tuple[str, ...] | None) -> Layout:
    if not all(isinstance(leaf, Tensor) for leaf in leaves):
        names = ", ".join(type(leaf).__name__ for leaf in leaves)
        raise TypeError(f"a nested state holds tensors only, not ({names})")
    if len({(leaf.dtype, leaf.device) for leaf in leaves}) > 1:
        raise TypeError("the tensors of a nested state share one dtype and one device; convert them first")
    return Layout(tuple(x.shape for x in leaves), tuple(x.numel() for x in leaves), rebuild, keys, False)


def describe(shapes: tuple[Any, ...]) -> str:
    texts = [f"shape {list(shape)}" if isinstance(shape, torch.Size) else str(shape) for shape in shapes]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
