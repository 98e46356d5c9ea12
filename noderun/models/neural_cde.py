"""Neural controlled differential equations, dz = f(z) dX (Kidger et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from noderun.data import Dataset
from noderun.dynamics.activations import activation as make_activation
from noderun.models.block import Solve, SolveBlock
from noderun.models.control import Control, ControlPath, derivative


class ControlledField(nn.Module):
    """dz/ds = f(z) dX/ds with a net f: R^H -> R^(H x C), whose last layer is a tanh (Kidger et al. 2020, equation 4).

    ``field(s, z, coefficients)`` of z [B, H] and the coefficients [B, K, n, C] of a control is [B, H].
    """

    def __init__(self, hidden: int, channels: int, width: int, layers: int, activation: str) -> None:
        super().__init__()
        sizes = [hidden, *[width] * layers]
        self.layers: Iterable[nn.Linear] = nn.ModuleList(map(nn.Linear, sizes, sizes[1:]))  # type: ignore[assignment]
        self.activation = make_activation(activation)
        self.last = nn.Linear(sizes[-1], hidden * channels)

    def matrix(self, z: Tensor) -> Tensor:
        """f(z) [B, H, C]."""
        x = z
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.last(x).tanh().unflatten(-1, (z.shape[-1], -1))

    def forward(self, s: Tensor, z: Tensor, coefficients: Tensor) -> Tensor:
        return (self.matrix(z) * derivative(coefficients, s).unsqueeze(1)).sum(-1)


class NeuralCDE(nn.Module):
    """Series [B, T, D] to [B, outputs] at their ends, or to [B, S, outputs] at ``target_times`` [B, S].

    The control is (t, x) through the observations, or x alone without ``time``; z(0) is linear in its start, outputs
    are linear in z. Knots are the times 0, 1, ... of the solve. Fixed steps of size 1 see the increment of the control
    over their interval, as those for stochastic equations do, and not its derivative at some points: one step cannot
    resolve a curve.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        solve: Solve,
        *,
        hidden: int = 32,
        width: int = 64,
        layers: int = 1,
        activation: str = "silu",
        interpolation: str = "hermite",
        initial: float | None = None,
        time: bool = True,
    ) -> None:
        super().__init__()
        channels = shape[-1] + time
        self.control = ControlPath(interpolation, initial, time)
        self.encoder = nn.Linear(channels, hidden)
        self.block = SolveBlock(self.make_field(hidden, channels, width, layers, activation), solve)
        self.head = nn.Linear(hidden, outputs)

    def make_field(self, hidden: int, channels: int, width: int, layers: int, activation: str) -> nn.Module:
        return ControlledField(hidden, channels, width, layers, activation)

    def prepare_for(self, dataset: Dataset) -> None:
        """Raise DataError if the model cannot take a series of the set."""
        self.control.prepare_for(dataset)

    def coefficients(self, control: Control) -> Tensor:
        """What the field is given of a control, a row for each interval of the clock [B, K, ...]."""
        whole_intervals = (getattr(self.block.solve, "dt", None) or 0.0) >= 1
        return control.increments.unsqueeze(2) if whole_intervals else control.coefficients

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        control = self.control(inputs, times, mask, target_times)
        coefficients = self.coefficients(control)
        end = coefficients.shape[1]
        ts = [0.0, end] if control.asked is None else range(end + 1)
        z0 = self.encoder(control.start)
        states = self.block(z0, ts, args=(coefficients,), jump_ts=range(1, end)).ys.transpose(0, 1)
        outputs: Tensor = self.head(control.outputs(states))
        return outputs
