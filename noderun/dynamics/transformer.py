"""A transformer as vector field over tokens (Vaswani et al. 2017, norms first); without positions equivariant."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noderun.dynamics.time import TimeEmbedding


class Attention(nn.Module):
    """Multi-head self-attention on [B, N, D], written out: a fused kernel has no second derivatives."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"dynamics transformer splits width {width} into {heads} heads; expected a multiple")
        self.heads = heads
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, d]
        scores = torch.softmax(q @ k.mT / k.shape[-1] ** 0.5, dim=-1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """f(t, y) for tokens y [B, N, D], or a map [B, C, H, W] cut into ``patch`` x ``patch`` tokens."""

    def __init__(
        self,
        state_shape: tuple[int, ...],
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        patch: int = 1,
        positions: bool = True,
    ) -> None:
        super().__init__()
        self.patch = patch
        tokens, size = self.tokens_of(state_shape)
        self.time = TimeEmbedding(width)
        self.first = nn.Linear(size, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width)) if positions else None
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x = self.first(self.cut(y)) + self.time(t)[:, None]
        if self.positions is not None:
            x = x + self.positions
        return self.joined(self.last(self.layers(x)), y.shape)

    def tokens_of(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The number of tokens in a state of this shape, and the size of one."""
        if len(shape) == 2:
            return shape[0], shape[1]
        if len(shape) != 3:
            raise ValueError(f"dynamics transformer needs tokens [N, D] or a map [C, H, W], got {list(shape)}")
        channels, height, width = shape
        if height % self.patch or width % self.patch:
            raise ValueError(f"patches of {self.patch} do not tile {height}x{width}; choose dynamics.patch=1")
        return height * width // self.patch**2, channels * self.patch**2

    def cut(self, y: Tensor) -> Tensor:
        """Tokens [B, N, size]."""
        if y.dim() == 3:
            return y
        p = self.patch
        return y.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def joined(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of ``cut``."""
        if len(shape) == 3:
            return tokens
        (_, channels, height, width), p = shape, self.patch
        grid = tokens.unflatten(1, (height // p, width // p)).unflatten(3, (channels, p, p))
        return grid.permute(0, 3, 1, 4, 2, 5).reshape(shape)
