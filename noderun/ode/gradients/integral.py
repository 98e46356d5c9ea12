"""dL/dtheta as an integral along the backward solve, and the control of its error.

dL/dtheta = -int a^T df/dtheta dt        (Chen et al. 2018, equation 5)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions
from noderun.ode.solvers.method import Quadrature


class ParamIntegral:
    """The integral so far, one real vector [P] of all parameters.

    With ``full`` its error is held below atol + rtol |dL/dtheta| in the root mean square norm. One norm measures the
    whole vector: if each component were held to its own size, components that hardly matter would demand steps.
    """

    def __init__(self, params: tuple[Tensor, ...], control: StepOptions, full: bool) -> None:
        self.params = params
        self.value = joined(params, [None] * len(params)) if params else torch.zeros(0)
        self.controlled = full and bool(params) and not control.fixed
        rtol, atol = (float(x.min()) if isinstance(x, Tensor) else x for x in (control.rtol, control.atol))
        self.rtol, self.atol = rtol, atol * len(self.value) ** 0.5  # of Euclidean norms
        self.size: float | None = 0.0  # of the value; None until a step is tried
        self.tried = self.value, 0.0  # both after the step being tried
        self.limiting = 0  # attempts whose step size the integral determined

    def try_step(self, quadrature: Quadrature | None) -> float:
        """The error over a step in units of the tolerance; the host waits for this number."""
        assert quadrature is not None
        if self.size is None:
            self.size = float(torch.linalg.vector_norm(self.value))
        change, error = quadrature.sums()
        after = self.value - change
        sizes: list[float] = torch.linalg.vector_norm(torch.stack((after, error)), dim=1).tolist()
        self.tried = after, sizes[0]
        tolerance = self.atol + self.rtol * max(self.size, sizes[0])
        ratio = sizes[1] / tolerance if tolerance else (math.inf if sizes[1] else 0.0)
        self.limiting += ratio > 0.1
        return ratio

    def accept(self) -> None:
        """Keep the step that was tried last."""
        self.value, self.size = self.tried

    def add(self, quadrature: Quadrature | None) -> None:
        """Add a step without an estimate of its error."""
        assert quadrature is not None
        self.value = self.value - quadrature.sums()[0]

    def set(self, value: Tensor) -> None:
        """Continue from another value."""
        self.value, self.size = value, None

    def gradients(self) -> list[Tensor]:
        """dL/dtheta of each parameter."""
        return self.split(self.value)

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector [P] as a tensor of each parameter's shape and dtype."""
        parts, found = [real(p) for p in self.params], []
        pieces = vector.split([part.numel() for part in parts]) if parts else ()
        for p, part, piece in zip(self.params, parts, pieces, strict=True):
            shaped = piece.view(part.shape).to(part.dtype)
            found.append(torch.view_as_complex(shaped.contiguous()) if p.is_complex() else shaped)
        return found


def joined(params: Sequence[Tensor], values: Sequence[Tensor | None]) -> Tensor:
    """One value per parameter, 0 for None, as one real vector [P]."""
    pairs = zip(params, values, strict=True)
    return torch.cat([real(torch.zeros_like(p) if value is None else value).reshape(-1) for p, value in pairs])


def real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
