"""Diagonal linear state-space models with the time steps of the data.

Smith et al. 2023 (S5); Orvieto et al. 2023 (LRU).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from noderun.models.recurrence import DiagonalRecurrence
from noderun.models.timeline import timeline


class DiagonalSSM(nn.Module):
    """x_k = exp(Lambda dt_k) x_(k-1) + gamma B u_k, y_k = Re(C x_k) + D u_k for complex x [state].

    An observation is an impulse, so that the state between two does not depend on how often it is looked at. |exp
    Lambda| < 1 for any parameters, and gamma = (1 - |exp Lambda|^2)^(1/2) (LRU, equation 7). Time scales are drawn from
    1 to 1000 steps, and frequencies up to half a turn per time scale.
    """

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(-math.log(1000) * torch.rand(state))
        self.frequency = nn.Parameter(math.pi * torch.rand(state) * self.log_decay.detach().exp())
        self.b = nn.Parameter(torch.randn(width, 2 * state) / math.sqrt(2 * width))
        self.c = nn.Parameter(torch.randn(2 * state, width) / math.sqrt(state))
        self.d = nn.Parameter(torch.ones(width))

    def forward(self, u: Tensor, gaps: Tensor, observed: Tensor) -> Tensor:
        """y [L, B, width] from u of that shape, the time since the moment before and whether one was observed."""
        rate = self.log_decay.exp()
        gamma = (-torch.expm1(-2 * rate)).sqrt().repeat_interleave(2)
        driven = (u * observed) @ (self.b * gamma)  # real and imaginary parts are neighbors: views, and no copies
        impulses = torch.view_as_complex(driven.unflatten(-1, (-1, 2)))
        x = DiagonalRecurrence.apply(torch.complex(-rate, self.frequency), gaps, impulses)
        return torch.view_as_real(x).flatten(-2) @ self.c + self.d * u


class Layer(nn.Module):
    """A state-space model between a norm and a gated linear unit, with a skip."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ssm = DiagonalSSM(width, state)
        self.gate = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, gaps: Tensor, observed: Tensor) -> Tensor:
        y = nn.functional.gelu(self.ssm(self.norm(x), gaps, observed))
        return x + nn.functional.glu(self.gate(y), dim=-1)


class SSM(nn.Module):
    """Series [B, T, D] to [B, outputs] at their ends, or to [B, S, outputs] at ``target_times`` [B, S].

    Inputs are the path, its increments, the gap in time and what was observed. Gaps are in units of a series' mean gap.
    """

    def __init__(
        self, shape: tuple[int, ...], outputs: int, *, width: int = 64, state: int = 64, layers: int = 2
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(3 * shape[-1] + 1, width)
        self.layers = nn.ModuleList(Layer(width, state) for _ in range(layers))
        self.head = nn.Linear(width, outputs)

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        line = timeline(inputs, times, mask, target_times)
        path, gaps = line.filled(), line.gaps
        increments = torch.diff(path, dim=1, prepend=path[:, :1])
        steps = (gaps > 0).sum(1, keepdim=True)
        gaps = (gaps * steps / gaps.sum(1, keepdim=True).clamp(min=torch.finfo(gaps.dtype).tiny)).unsqueeze(-1)
        x = self.encoder(torch.cat([path, increments, line.mask, gaps], dim=-1).transpose(0, 1))
        moments = gaps.transpose(0, 1), line.mask.amax(2, keepdim=True).transpose(0, 1)
        for layer in self.layers:
            x = layer(x, *moments)
        found = x.transpose(0, 1).gather(1, line.asked.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        answers: Tensor = self.head(found)
        return answers if target_times is not None else answers[:, 0]
