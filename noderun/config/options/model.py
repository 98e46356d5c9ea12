"""Models: what is trained."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from noderun.config.options.objective import Objective
from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Count, FolderName, Index, Positive

Part = Literal["dynamics", "solver", "gradient", "regularizer"]
Takes = Annotated[tuple[str, ...], FACT]
Uses = Annotated[tuple[Part, ...], FACT]
SOLVES: tuple[Part, ...] = ("dynamics", "solver", "gradient", "regularizer")
StemName = Literal["conv", "residual", "linear", "none"] | None
Stem = Annotated[StemName, "null: conv of images, none of points"]
Head = Literal["pool", "flatten", "none"]
Width = Annotated[Count, "channels of the state"]
Blocks = Annotated[Count, "residual blocks"]


@dataclass(frozen=True)
class Model(Option, group="model"):
    """What is trained. ``takes`` names the kinds of data, ``uses`` the config groups that the model needs."""

    name: Annotated[FolderName, FACT]
    objective: Annotated[
        Objective,
        Reference("classify"),
        "cross entropy of classes, squared error, smooth L1 distance to the labels -1 and 1, mean -log p(x), or "
        "of series whichever of the first two the task asks for, or the evidence lower bound",
    ] = Objective()
    takes: Takes = ("image",)
    uses: Uses = ()
    packages: Annotated[tuple[str, ...], FACT] = ()  # of an extra, without which the model cannot be made
    fixed_steps: Annotated[bool, FACT] = False  # the steps define the model: an adaptive solver would be another one
    stochastic: Annotated[bool, FACT] = False  # the solver and gradient are those of noderun.sde
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of what makes it: stem, width, ...
    user_class: str | None = None


@declaration
class OdeNet(Model, name="odenet"):
    """The ODE-Net of Chen et al. 2018: stem, then one ODE block y(t1) of dy/dt = f(t, y), then head."""

    takes: Takes = ("image", "vector")
    uses: Uses = SOLVES
    stem: Annotated[
        StemName,
        "conv: 208,266 parameters; residual: 232,970; linear: to a vector state, for dynamics=mlp; none; null: conv of "
        "images, none of points",
    ] = None
    width: Annotated[Count, "channels of the state; 64 is the paper's"] = 64
    augment: Annotated[Index, "zero dimensions or channels appended to the state (Dupont et al. 2019)"] = 0
    t1: Annotated[Positive, "depth: only its product with the size of f matters, so 1 as in the paper"] = 1.0
    head: Annotated[
        Head, "pool: norm and mean over the map, then linear; flatten: linear on all of it; none: y(t1) itself"
    ] = "pool"


@declaration
class RkNet(OdeNet, name="rknet"):
    """RK-Net (Chen et al. 2018, table 1): the ODE-Net's net, integrated by fixed steps of an explicit Runge-Kutta
    method and differentiated through the steps. It has no gradient group: backprop is what makes it an RK-Net."""

    chooses: ClassVar = {"solver": "rk4"}  # the paper names no method: the classical one

    uses: Uses = ("dynamics", "solver", "regularizer")
    fixed_steps: Annotated[bool, FACT] = True


@declaration
class ResNet(Model, name="resnet"):
    """The residual net that the ODE-Net replaces: stem, pre-activation residual blocks, head. On points
    a block is x + h W2 tanh(W1 x)."""

    takes: Takes = ("image", "vector")
    stem: Annotated[
        StemName, "conv: 576,778 parameters; residual: 601,482, the paper's 0.60M; null: conv of images, none of points"
    ] = None
    width: Annotated[Count, "channels of the state; of points, the width inside a block"] = 64
    blocks: Annotated[Count, "residual blocks; 6 is the paper's"] = 6
    step: Annotated[Positive | None, "h in y + h F(y); null: 1, or 1 / blocks if tied"] = None
    double_at: Annotated[
        tuple[Count, ...], "epochs after which the depth is doubled and h halved, each block followed by its copy"
    ] = ()
    tied: Annotated[bool, "true: one block at all depths, with time as an input; Euler's method on the ODE-Net"] = False
    head: Head = "pool"


@declaration
class RevNet(Model, name="revnet"):
    """RevNet (Gomez et al. 2017): residual blocks that can be run backwards, so that no activation is kept."""

    stem: Stem = None
    width: Annotated[Count, "channels of the state, split into two halves, each of which changes the other"] = 64
    blocks: Blocks = 6


@declaration
class Hamiltonian(Model, name="hamiltonian"):
    """Reversible nets that are discrete mechanics (Chang et al. 2018): stable at any depth; no activation is kept."""

    stem: Stem = None
    width: Annotated[Count, "channels of the state, half of them positions, half momenta"] = 64
    blocks: Blocks = 6
    step: Annotated[Positive, "h; stable while h^2 |K|^2 is below about 4"] = 1.0
    scheme: Annotated[Literal["verlet", "leapfrog"], "verlet: q and p in turn; leapfrog: y'' = -K^T tanh(K y + b)"] = (
        "verlet"
    )


@declaration
class Plain(Model, name="plain"):
    """The residual net without its skips: what the skips are worth."""

    stem: Stem = None
    width: Width = 64
    blocks: Blocks = 6


@declaration
class StemHead(Model, name="stem"):
    """Stem and head with nothing in between (132,874 parameters): what the depth is worth, which on MNIST is little."""

    stem: Stem = None
    width: Width = 64


@declaration
class Mlp(Model, name="mlp"):
    """One hidden layer (LeCun et al. 1998), the first row of Chen et al. 2018, table 1."""

    hidden: Annotated[Count, "hidden units; 300 gives 238,510 parameters, the paper's 0.24M"] = 300
