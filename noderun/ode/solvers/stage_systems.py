"""The linear systems behind implicit stages, for one solution's blocks and for samples with steps of their own alike.

J [b, d, d] are the Jacobians of b independent systems, each times its step size; stages are [b, s, d].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noderun.ode.solvers.control import StepOptions

Factors = tuple[Tensor, Tensor]  # LU and pivots


class Systems:
    """I - a x J as systems of the size of J, one for each eigenvalue of a or complex pair; HW II, (IV.8.6)."""

    def __init__(self, a: Tensor) -> None:
        if len(a) == 1:
            self.values, self.into, self.back = a[0], torch.ones_like(a), torch.ones_like(a)
            return
        values, vectors = torch.linalg.eig(a.double().cpu())
        kept = values.imag >= 0
        into, back = torch.linalg.inv(vectors)[kept], vectors[:, kept] * torch.where(values[kept].imag > 0, 2.0, 1.0)
        self.values, self.into, self.back = (x.to(a.device, a.dtype.to_complex()) for x in (values[kept], into, back))

    def factored(self, matrix: Tensor) -> Factors:
        """LU of I - lambda J [m, b, d, d] for the m eigenvalues."""
        systems = self.values.neg().view(-1, 1, 1, 1) * matrix
        systems.diagonal(dim1=-2, dim2=-1).add_(1)
        lu, pivots, _ = torch.linalg.lu_factor_ex(systems)
        return lu, pivots

    def solve(self, factors: Factors, residual: Tensor) -> Tensor:
        """(I - a x J)^-1 residual [b, s, d]."""
        if self.into.numel() == 1:  # a single stage
            return torch.linalg.lu_solve(*factors, residual.transpose(1, 2).unsqueeze(0))[0].transpose(1, 2)
        right = (self.into @ residual.to(self.into.dtype)).transpose(0, 1).unsqueeze(-1)
        solved = torch.linalg.lu_solve(*factors, right).squeeze(-1).transpose(0, 1)
        return (self.back @ solved).real


def coupled(a: Tensor, matrices: Sequence[Tensor]) -> Factors:
    """LU of I - (a_ij J_j) [b, s d, s d], if J differs among the stages."""
    count, width = len(matrices[0]), len(a) * matrices[0].shape[-1]
    system = torch.einsum("ij,jbkl->bikjl", a, torch.stack(list(matrices))).reshape(count, width, width).neg()
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    lu, pivots, _ = torch.linalg.lu_factor_ex(system)
    return lu, pivots


class Implicit(torch.autograd.Function):
    """Z [b, s, d] with Z = R(Z, theta), given the value of Z and the graph of R, by the implicit function theorem.

    dZ = (I - dR/dZ)^-1 dR/dtheta dtheta, with the factors of I - dR/dZ that ``coupled`` makes.
    """

    @staticmethod
    def forward(ctx: Any, stages: Tensor, residual: Tensor, lu: Tensor, pivots: Tensor) -> Tensor:
        ctx.save_for_backward(lu, pivots)
        return stages.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("an implicit solver can be differentiated once; rosenbrock23 and rodas4 can twice")
        right = grads[0].flatten(1).unsqueeze(2)
        return None, torch.linalg.lu_solve(*ctx.saved_tensors, right, adjoint=True).view_as(grads[0]), None, None


def precision(control: StepOptions | None, dtype: torch.dtype) -> tuple[float, int]:
    """The bound of Newton's error in units of the tolerance, and the number of iterations; HW II, IV.8.

    For fixed steps, without ``control`` too: in units of ``round_off``.
    """
    if control is None or control.fixed:
        return 1.0, 20
    rtol, eps = float(torch.as_tensor(control.rtol).min()), torch.finfo(dtype).eps
    return max(10 * eps / max(rtol, eps), min(0.03, rtol**0.5)), 7


def round_off(y: Tensor) -> Tensor:
    """The size that an error of Newton's iteration has at the least, give or take."""
    return (1 + y.abs()) * torch.finfo(y.dtype).eps * 8
