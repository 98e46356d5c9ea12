"""Size of the field's Jacobian: int |df/dy|_F^2 dt / d (Finlay et al. 2020).

|J|_F^2 = E |e^T J|^2 for noise e of unit covariance (Hutchinson 1990); one e per solve keeps the field smooth in t.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from noderun import noise
from noderun.regularizers.quadrature import Field, Integrand, mean_square, require_tensor


class Jacobian:
    def __call__(self, y0: Tensor) -> Integrand:
        require_tensor(self, y0)
        return partial(self.integrand, noise.for_batch(torch.randn, y0.shape, y0))

    def integrand(self, e: Tensor, f: Field, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            y = y if recorded and y.requires_grad else y.detach().requires_grad_()
            dy = f(t, y)
            (vjp,) = torch.autograd.grad(dy, y, e.to(dy.dtype), create_graph=recorded)
        return (dy, mean_square(vjp)) if recorded else (dy.detach(), mean_square(vjp))
