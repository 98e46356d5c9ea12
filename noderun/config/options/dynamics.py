"""Dynamics: the vector field f(t, y; theta) of a model that solves an ODE."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from noderun.config.options.option import FACT, Option, declaration
from noderun.config.options.types import Activation, Count, Index, Positive

Time = Annotated[bool, "f sees t"]


@dataclass(frozen=True)
class Dynamics(Option, group="dynamics"):
    """The vector field f(t, y; theta)."""

    name: Annotated[str, FACT]
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


class Conv(Dynamics, name="conv"):
    """f of Chen et al. 2018 for images: norm, ReLU, 3x3 convolution, twice, and a norm; time is one more input channel
    of each convolution. Its channels are those of the state (model.width)."""


@declaration
class ConvAnode(Dynamics, name="conv_anode"):
    """f of Dupont et al. 2019 for images: 1x1, 3x3 and 1x1 convolutions with ReLU, and no norm."""

    hidden: Annotated[
        Count, "channels in between; the authors' 92 for MNIST (64 with model.augment=5), 125 for CIFAR-10"
    ] = 92
    time: Annotated[
        bool, "t as one more input channel of each convolution; the paper's tables count the net without"
    ] = False


@declaration
class ConvSquash(Dynamics, name="conv_squash"):
    """Convolutions gated and shifted by time, the concatsquash layers of FFJORD (Grathwohl et al. 2019)."""

    hidden: Annotated[Count, "channels in between"] = 64
    layers: Annotated[Count, "convolutions"] = 3
    activation: Annotated[Activation, "smooth, so that high-order methods keep their order; the authors'"] = "softplus"


@declaration
class Mlp(Dynamics, name="mlp"):
    """A fully connected f on the flattened state."""

    hidden: Annotated[Count, "width of the layers in between"] = 64
    layers: Annotated[Count, "linear maps"] = 3
    activation: Annotated[Activation, "smooth, so that high-order methods keep their order"] = "tanh"
    time: Time = True
    output: Annotated[Activation, "what follows the last map"] = "identity"


@declaration
class TimeMlp(Dynamics, name="time_mlp"):
    """A fully connected f whose every layer sees t, as FFJORD's (Grathwohl et al. 2019); its trace is known in closed
    form."""

    layer: Annotated[
        Literal["ignore", "concat", "gated", "concat_squash"],
        "of W x + b; ignore: no t; concat: + c t; gated: times sigmoid(a t + d); concat_squash: both",
    ] = "concat_squash"
    hidden: Annotated[Count, "width of the layers in between; the authors' for points in the plane"] = 64
    layers: Annotated[Count, "linear maps; the authors' for points in the plane"] = 4
    activation: Annotated[Activation, "smooth, so that high-order methods keep their order; the authors'"] = "tanh"


@declaration
class Transformer(Dynamics, name="transformer"):
    """A transformer over the pixels or patches of the state, or over tokens [N, D]; time is added to every token."""

    width: Annotated[Count, "numbers per token inside"] = 64
    layers: Count = 2
    heads: Annotated[Count, "attention heads, which divide the width"] = 4
    patch: Annotated[Count, "pixels on a side of a token; divides the map"] = 1
    positions: Annotated[bool, "learned; false makes f equivariant under permutations of the tokens"] = True


@declaration
class Unet(Dynamics, name="unet"):
    """A U-Net (Ronneberger et al. 2015): the map halved and restored, with skips; time enters every block."""

    width: Annotated[Count, "channels inside"] = 32
    levels: Annotated[Index, "halvings at most; a map stops at 2 pixels"] = 2


@declaration
class LotkaVolterra(Dynamics, name="lotka_volterra"):
    """Prey and predators: u' = (alpha - beta v) u, v' = (-gamma + delta u) v. A known f for model=physics, whose four
    positive parameters start at these guesses."""

    alpha: Positive = 1.0
    beta: Positive = 0.05
    gamma: Positive = 1.0
    delta: Positive = 0.05
    prey: Annotated[Literal[0, 1], "the channel of the prey; the other is the predators'"] = 0


@declaration
class Pendulum(Dynamics, name="pendulum"):
    """A damped pendulum: angle'' = -frequency^2 sin(angle) - damping angle'. A known f for model=physics."""

    frequency: Annotated[Positive, "first guess"] = 1.0
    damping: Annotated[Positive, "first guess"] = 0.1


@declaration
class Lorenz(Dynamics, name="lorenz"):
    """The Lorenz system. A known f for model=physics."""

    sigma: Annotated[Positive, "first guess; the classical 10"] = 8.0
    rho: Annotated[Positive, "first guess; the classical 28"] = 25.0
    beta: Annotated[Positive, "first guess; the classical 8/3"] = 2.0


@declaration
class BouncingBall(Dynamics, name="bouncing_ball"):
    """Free fall onto a floor off which the ball bounces, for model=hybrid; floor and restitution are unknown."""

    gravity: Annotated[Positive, "m/s^2"] = 9.81
    restitution: Annotated[Positive, "first guess; the floor's is the lowest height that was observed"] = 0.75


@declaration
class Conv1d(Dynamics, name="conv1d"):
    """Circular convolutions along a periodic grid, as f of a partial differential equation in one dimension."""

    hidden: Annotated[Count, "channels in between"] = 32
    layers: Annotated[Count, "convolutions"] = 4
    kernel: Annotated[Count, "points of the grid that one convolution sees; an odd number"] = 5
    activation: Annotated[Activation, "smooth, so that high-order methods keep their order"] = "silu"
    time: Annotated[bool, "f sees t"] = False
