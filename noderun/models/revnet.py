"""Residual nets that recompute their activations: RevNet, and two that are discrete mechanics."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from noderun.models.couplings import Additive, Leapfrog, Residual, Symmetric
from noderun.models.reversible import ReversibleChain
from noderun.models.stem_head import make_head, make_stem


class Reversible(nn.Sequential):
    """Examples [B, *shape] to [B, outputs]; the stem's channels are split into the two states of each block."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, stem: str | None, width: int, blocks: Sequence[nn.Module]
    ) -> None:
        first, state_shape = make_stem(stem, shape, width)
        if len(state_shape) != 3 or state_shape[0] % 2:
            raise ValueError(f"reversible blocks split a state [C, H, W] of even C, got {list(state_shape)}")
        body = ReversibleChain(*blocks)
        super().__init__(OrderedDict(stem=first, blocks=body, head=make_head(state_shape, outputs)))


class RevNet(Reversible):
    """Gomez et al. 2017: two residual functions per block, each on the half of the channels that the other changed."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, *, stem: str | None = None, width: int = 64, blocks: int = 6
    ) -> None:
        units = [Additive(Residual(width // 2), Residual(width // 2)) for _ in range(blocks)]
        super().__init__(shape, outputs, stem, width, units)


class Hamiltonian(Reversible):
    """Chang et al. 2018: Verlet steps for q' = K^T s(K p), p' = -K^T s(K q), or leapfrog for y'' = -K^T s(K y)."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        stem: str | None = None,
        width: int = 64,
        blocks: int = 6,
        step: float = 1.0,
        scheme: str = "verlet",
    ) -> None:
        schemes: dict[str, Callable[[], nn.Module]] = {
            "verlet": lambda: Additive(Symmetric(width // 2), Symmetric(width // 2), step, -1.0),
            "leapfrog": lambda: Leapfrog(Symmetric(width // 2), step),
        }
        if scheme not in schemes:
            raise ValueError(f"no scheme {scheme!r}; there are: {', '.join(schemes)}")
        super().__init__(shape, outputs, stem, width, [schemes[scheme]() for _ in range(blocks)])
