"""The residual net that the ODE-Net replaces, and its weight-tied form, which is Euler's method on the ODE-Net."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from noderun.dynamics.conv import Conv
from noderun.dynamics.mlp import MLP
from noderun.models.residual import DenseResidualBlock, ResidualBlock
from noderun.models.stem_head import make_head, make_stem


class TiedResidualBlocks(nn.Module):
    """y <- y + h f(ih, y) for i = 0 .. blocks - 1, by default up to t = 1: one residual block at every depth."""

    def __init__(self, dynamics: nn.Module, blocks: int, step: float | None = None) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.blocks = blocks
        self.step = 1 / blocks if step is None else step

    def forward(self, y: Tensor) -> Tensor:
        for i in range(self.blocks):
            y = y + self.step * self.dynamics(y.new_tensor(i * self.step), y)
        return y


class ResNet(nn.Sequential):
    """Examples [B, *shape] to [B, outputs]; ``tied`` shares one block with time among all depths.

    ``step`` is h in y + h F(y): by default 1, or 1 / blocks if tied. ``double_at`` are the numbers of epochs after
    which training calls ``refine``.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        stem: str | None = None,
        width: int = 64,
        blocks: int = 6,
        tied: bool = False,
        step: float | None = None,
        double_at: Sequence[int] = (),
        head: str = "pool",
    ) -> None:
        first, state_shape = make_stem(stem, shape, width)
        body: nn.Module
        if tied:
            body = TiedResidualBlocks((Conv if len(state_shape) == 3 else MLP)(state_shape), blocks, step)
        elif len(state_shape) == 1:
            body = nn.Sequential(*(DenseResidualBlock(state_shape[0], width, step or 1.0) for _ in range(blocks)))
        else:
            body = residual_blocks(state_shape, blocks, step=1.0 if step is None else step)
        super().__init__(OrderedDict(stem=first, blocks=body, head=make_head(state_shape, outputs, head)))
        self.double_at = tuple(double_at)

    def refine(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Double the depth at half the step, so that the net stays about the same; returns (new, source) parameters.

        Each block is followed by a copy of itself (Chang et al. 2018, multi-level training).
        """
        body: nn.Module = self.get_submodule("blocks")
        if isinstance(body, TiedResidualBlocks):
            body.blocks, body.step = 2 * body.blocks, body.step / 2
            return []
        assert isinstance(body, nn.Sequential)
        deeper, pairs = [], []
        for block in body:
            assert isinstance(block, ResidualBlock | DenseResidualBlock)
            block.step = block.step / 2
            twin = copy.deepcopy(block)
            deeper += [block, twin]
            pairs += list(zip(twin.parameters(), block.parameters(), strict=True))
        self.blocks = nn.Sequential(*deeper)
        return pairs


def residual_blocks(state_shape: tuple[int, ...], blocks: int, skip: bool = True, step: float = 1.0) -> nn.Sequential:
    if len(state_shape) != 3:
        raise ValueError(f"residual blocks need a state [C, H, W], got {list(state_shape)}; choose stem=conv")
    return nn.Sequential(*(ResidualBlock(state_shape[0], skip=skip, step=step) for _ in range(blocks)))
