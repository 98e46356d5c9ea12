"""Kinetic energy of the flow: int |f|^2 dt / d (Finlay et al. 2020; optimal transport moves along lines)."""

from __future__ import annotations

from torch import Tensor

from noderun.regularizers.quadrature import Field, Integrand, mean_square, require_tensor


class Kinetic:
    def __call__(self, y0: Tensor) -> Integrand:
        require_tensor(self, y0)
        return self.integrand

    def integrand(self, f: Field, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        dy = f(t, y)
        return dy, mean_square(dy)
