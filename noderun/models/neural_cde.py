"""Neural controlled differential equations, dz = f(z) dX (Kidger et al. 2020)."""

from __future__ import annotations

from torch import Tensor, nn

from noderun.dynamics.activations import activation as make_activation
from noderun.models.block import Solve, SolveBlock
from noderun.models.control import ControlPath, derivative


class ControlledField(nn.Module):
    """dz/ds = f(z) dX/ds with a net f: R^H -> R^(H x C), whose last layer is a tanh (Kidger et al. 2020, equation 4).

    ``f(s, z, coefficients)`` of z [B, H] and the coefficients of a control (``control.Control``) is [B, H].
    """

    def __init__(self, hidden: int, channels: int, width: int, layers: int, activation: str) -> None:
        super().__init__()
        sizes = [hidden, *[width] * layers]
        parts: list[nn.Module] = []
        for i, o in zip(sizes, sizes[1:], strict=False):
            parts += [nn.Linear(i, o), make_activation(activation)]
        self.net = nn.Sequential(*parts, nn.Linear(sizes[-1], hidden * channels), nn.Tanh())

    def matrix(self, z: Tensor) -> Tensor:
        """f(z) [B, H, C]."""
        return self.net(z).unflatten(-1, (z.shape[-1], -1))

    def forward(self, s: Tensor, z: Tensor, coefficients: Tensor) -> Tensor:
        return (self.matrix(z) * derivative(coefficients, s).unsqueeze(1)).sum(-1)


class NeuralCDE(nn.Module):
    """Series [B, T, D] to [B, outputs] at their ends, or to [B, S, outputs] at ``target_times`` [B, S].

    The control is (t, x) through the observations, or x alone without ``time``; z(0) is linear in its start, outputs
    are linear in z. A step of the solver of size 1 takes one interval between observations.
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
        self.control = ControlPath(interpolation, initial, time)
        channels = shape[-1] + time
        self.encoder = nn.Linear(channels, hidden)
        self.block = SolveBlock(ControlledField(hidden, channels, width, layers, activation), solve)
        self.head = nn.Linear(hidden, outputs)

    def forward(
        self, inputs: Tensor, times: Tensor, mask: Tensor | None = None, target_times: Tensor | None = None
    ) -> Tensor:
        control = self.control(inputs, times, mask, target_times)
        end = control.coefficients.shape[1]
        ts = [0.0, end] if control.asked is None else range(end + 1)
        given = {"args": (control.coefficients,), "jump_ts": range(1, end)}
        states = self.block(self.encoder(control.start), ts, **given).ys.transpose(0, 1)
        return self.head(control.outputs(states))
