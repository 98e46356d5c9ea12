"""Log-NCDEs: a neural CDE by the log-ODE method of depth 2 over windows of intervals (Walker et al. 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp

from noderun.data import DataError, Dataset, Series
from noderun.models.control import Control, derivative
from noderun.models.neural_cde import ControlledField, NeuralCDE

ONE_OUTPUT = (
    "model=log_ncde takes a window of observations at a time, so it gives one output per series (task=classify or "
    "task=regress); model=neural_cde gives a sequence"
)


class LogField(ControlledField):
    """dz/ds = sum_i f_i(z) a_i + sum_(i<j) [f_i, f_j](z) A_ij with the window's increment a and Levy area A.

    f_i is column i of the net's matrix, and [f_i, f_j] = Df_j f_i - Df_i f_j. As A is antisymmetric, the second sum is
    sum_j Df_j (sum_i f_i A_ij): one derivative of each column along one direction.
    """

    def forward(self, s: Tensor, z: Tensor, signatures: Tensor) -> Tensor:
        channels = self.last.out_features // z.shape[-1]
        signature = derivative(signatures, s).view(len(z), 1 + channels, channels)
        increment, area = signature[:, :1], signature[:, 1:]
        f, tangents = self.matrix_with_tangents(z, area)
        return (f * increment + tangents).sum(-1)

    def matrix_with_tangents(self, z: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
        """f(z) [B, H, C], and [B, H, C] whose column j is the derivative of f_j along column j of f(z) A."""
        slopes, x = [], z
        for layer in self.layers:
            x = layer(x)
            x, slope = jvp(self.activation, (x,), (torch.ones_like(x),))[:2]
            slopes.append(slope)
        f = self.last(x).tanh().unflatten(-1, (z.shape[-1], -1))
        v = torch.bmm(f, area).permute(2, 0, 1)  # directions [C, B, H]
        for layer, slope in zip(self.layers, slopes, strict=True):
            v = (v @ layer.weight.t()) * slope
        weight = self.last.weight.unflatten(0, (z.shape[-1], -1))  # [H, C, width]
        return f, (1 - f.square()) * torch.bmm(v, weight.permute(1, 2, 0)).permute(1, 2, 0)


class LogNCDE(NeuralCDE):
    """Series [B, T, D] to [B, outputs]; the control is linear, and a step of size 1 takes a whole ``window``."""

    def __init__(self, *args: Any, window: int = 4, **options: Any) -> None:
        super().__init__(*args, interpolation="linear", **options)
        self.window = window

    def make_field(self, hidden: int, channels: int, width: int, layers: int, activation: str) -> nn.Module:
        return LogField(hidden, channels, width, layers, activation)

    def prepare_for(self, dataset: Dataset) -> None:
        """Raise DataError if the model cannot take a series of the set, or if it is to give a sequence."""
        if isinstance(dataset.target, Series):
            raise DataError(f"{dataset.name}: {ONE_OUTPUT}")
        super().prepare_for(dataset)

    def coefficients(self, control: Control) -> Tensor:
        if control.asked is not None:
            raise DataError(ONE_OUTPUT)
        return log_signatures(control.increments, self.window).flatten(2).unsqueeze(2)


def log_signatures(increments: Tensor, window: int) -> Tensor:
    """Log-signatures of depth 2 of a linear path's windows: from [B, K, C] to [B, W, 1 + C, C].

    Row 0 is the increment a = sum_k d_k, the others are the Levy area A = sum_(k<l) (d_k d_l^T - d_l d_k^T) / 2.
    """
    missing = -increments.shape[1] % window
    d = nn.functional.pad(increments, (0, 0, 0, missing)).unflatten(1, (-1, window))
    before = d.cumsum(2) - d
    products = before.transpose(2, 3) @ d
    return torch.cat([d.sum(2, keepdim=True), (products - products.transpose(2, 3)) / 2], dim=2)
