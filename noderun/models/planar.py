"""Planar flows (Rezende and Mohamed 2015, section 4.1): z + u tanh(w'z + b), layer after layer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noderun.models.flow import Flow


def planar(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """f(z) = z + u h(w'z + b) with h = tanh, and log |det df/dz| = log(1 + u'psi), psi = h' w (equations 10 to 12).

    z is [B, D], u and w are [D] or [B, D], b is [] or [B]; w'u > -1, as ``invertible`` makes it.
    """
    h = torch.tanh((w * z).sum(-1) + b)
    return z + u * h.unsqueeze(-1), torch.log1p((w * u).sum(-1) * (1 - h.square()))


def planar_inverse(y: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """z with f(z) = y, and log |det dz/dy|.

    a = w'z is the one root of a + w'u h(a + b) = w'y, which lies within |w'u| of w'y and is found by bisection. A step
    of Newton's method after it has the root's derivatives (the implicit function theorem).
    """
    wu, wy = (w * u).sum(-1), (w * y).sum(-1)
    with torch.no_grad():
        a = bisect(wu, wy, b)
    h = torch.tanh(a + b)
    a = a - (a + wu * h - wy) / (1 + wu * (1 - h.square())).detach()
    z = y - u * torch.tanh(a + b).unsqueeze(-1)
    return z, -planar(z, u, w, b)[1]


def bisect(wu: Tensor, wy: Tensor, b: Tensor) -> Tensor:
    """The root a of a + wu tanh(a + b) = wy, to the last digits of its type; the left side increases for wu > -1."""
    low, high = wy - wu.abs(), wy + wu.abs()
    for _ in range(math.ceil(-math.log2(torch.finfo(wy.dtype).eps))):
        middle = 0.5 * (low + high)
        above = middle + wu * torch.tanh(middle + b) > wy
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return 0.5 * (low + high)


def invertible(u: Tensor, w: Tensor) -> Tensor:
    """u, changed along w so that w'u > -1: u + (m(w'u) - w'u) w / |w|^2, m(x) = -1 + log(1 + e^x) (appendix A.1)."""
    wu = (w * u).sum(-1, keepdim=True)
    return u + (F.softplus(wu) - 1 - wu) * w / w.square().sum(-1, keepdim=True)


class PlanarNF(Flow):
    """``layers`` planar maps. One direction is the formula, the other a bisection per layer.

    ``formula`` is the direction of the formula: encode, from the data to the normal, for maximum likelihood; decode,
    from the normal to the data, for matching an energy.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, *, layers: int = 32, formula: str = "encode") -> None:
        super().__init__(shape)
        dim = math.prod(shape)
        self.u, self.w = (nn.Parameter(torch.randn(layers, dim) / math.sqrt(dim)) for _ in range(2))
        self.b = nn.Parameter(torch.zeros(layers))
        self.formula = formula

    def encode(self, y: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.through(y) if self.formula == "encode" else self.back(y)

    def decode(self, z: Tensor) -> Tensor:
        return self.decode_with_log_det(z)[0]

    def decode_with_log_det(self, z: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.through(z) if self.formula == "decode" else self.back(z)

    def through(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """All layers in order: f_K(...f_1(z)), and log |det| [B]."""
        point, log_det = z.flatten(1), z.new_zeros(len(z))
        for u, w, b in zip(invertible(self.u, self.w), self.w, self.b, strict=True):
            point, change = planar(point, u, w, b)
            log_det = log_det + change
        return point.view_as(z), log_det

    def back(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The inverses of all layers, the last one first."""
        point, log_det = y.flatten(1), y.new_zeros(len(y))
        for u, w, b in zip(invertible(self.u, self.w).flip(0), self.w.flip(0), self.b.flip(0), strict=True):
            point, change = planar_inverse(point, u, w, b)
            log_det = log_det + change
        return point.view_as(y), log_det
