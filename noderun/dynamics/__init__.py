"""The nets f(t, y; theta) of dy/dt = f; t comes 0-dim or [B, 1, ..., 1], and the result has y's shape."""

from collections.abc import Callable

from torch import nn

from noderun.dynamics.bouncing_ball import BouncingBall
from noderun.dynamics.conv import Conv
from noderun.dynamics.conv1d import Conv1d
from noderun.dynamics.conv_anode import ConvAnode
from noderun.dynamics.conv_squash import ConvSquash
from noderun.dynamics.mlp import MLP
from noderun.dynamics.systems import Lorenz, LotkaVolterra, Pendulum
from noderun.dynamics.time_mlp import TimeMLP
from noderun.dynamics.transformer import Transformer
from noderun.dynamics.unet import UNet

# name -> factory(state_shape, **options), state_shape without the batch dimension
DYNAMICS: dict[str, Callable[..., nn.Module]] = {
    "conv": Conv,
    "conv_anode": ConvAnode,
    "conv_squash": ConvSquash,
    "mlp": MLP,
    "time_mlp": TimeMLP,
    "transformer": Transformer,
    "unet": UNet,
    "lotka_volterra": LotkaVolterra,
    "pendulum": Pendulum,
    "lorenz": Lorenz,
    "bouncing_ball": BouncingBall,
    "conv1d": Conv1d,
}

__all__ = ["DYNAMICS"]
