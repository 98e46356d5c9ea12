"""The residual net that the ODE-Net replaces, and its weight-tied form, which is Euler's method on the ODE-Net."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from noderun.dynamics.conv import Conv
from noderun.models.block import MakeDynamics, Solve
from noderun.models.ends import make_head, make_stem
from noderun.models.residual import ResidualBlock


class EulerBlocks(nn.Module):
    """y <- y + h f(ih, y) for i = 0 .. blocks - 1 and h = 1 / blocks: one residual block at every depth."""

    def __init__(self, dynamics: nn.Module, blocks: int) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.blocks = blocks

    def forward(self, y: Tensor) -> Tensor:
        for i in range(self.blocks):
            y = y + self.dynamics(y.new_tensor(i / self.blocks), y) / self.blocks
        return y


class ResNet(nn.Sequential):
    """Examples [B, *shape] to logits [B, classes]; ``tied`` shares one block with time among all depths."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        make_dynamics: MakeDynamics | None = None,
        solve: Solve | None = None,
        *,
        stem: str = "conv",
        width: int = 64,
        blocks: int = 6,
        tied: bool = False,
    ) -> None:
        first, state_shape = make_stem(stem, shape, width)
        body = EulerBlocks(Conv(state_shape), blocks) if tied else residual_blocks(state_shape, blocks)
        super().__init__(OrderedDict(stem=first, blocks=body, head=make_head(state_shape, classes)))


def residual_blocks(state_shape: tuple[int, ...], blocks: int, skip: bool = True) -> nn.Sequential:
    if len(state_shape) != 3:
        raise ValueError(f"residual blocks need a state [C, H, W], got {list(state_shape)}; choose stem=conv")
    return nn.Sequential(*(ResidualBlock(state_shape[0], skip=skip) for _ in range(blocks)))
