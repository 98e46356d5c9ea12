"""The nets f(t, y; theta) of dy/dt = f; t comes as a 0-dim tensor, and the result has y's shape."""

from collections.abc import Callable

from torch import nn

from noderun.dynamics.conv import Conv
from noderun.dynamics.mlp import MLP

# name -> factory(state_shape, **options), state_shape without the batch dimension
DYNAMICS: dict[str, Callable[..., nn.Module]] = {"conv": Conv, "mlp": MLP}

__all__ = ["DYNAMICS"]
