"""Models: what is trained."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from noderun.config.options.objective import Objective
from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Count, FolderName, Index, Positive, Tolerance

Part = Literal["dynamics", "solver", "gradient", "regularizer"]
Takes = Annotated[tuple[str, ...], FACT]
Uses = Annotated[tuple[Part, ...], FACT]
SOLVES: tuple[Part, ...] = ("dynamics", "solver", "gradient", "regularizer")
Stem = Literal["conv", "residual", "linear", "none"]
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
        "cross entropy of classes, squared error, smooth L1 distance to the labels -1 and 1, or mean -log p(x)",
    ] = Objective()
    takes: Takes = ("image",)
    uses: Uses = ()
    fixed_steps: Annotated[bool, FACT] = False  # the steps define the model: an adaptive solver would be another one
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of what makes it: stem, width, ...
    user_class: str | None = None


@declaration
class OdeNet(Model, name="odenet"):
    """The ODE-Net of Chen et al. 2018: stem, then one ODE block y(t1) of dy/dt = f(t, y), then head."""

    takes: Takes = ("image", "vector")
    uses: Uses = SOLVES
    stem: Annotated[
        Stem, "conv: 208,266 parameters; residual: 232,970; linear: to a vector state, for dynamics=mlp; none"
    ] = "conv"
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
    """The residual net that the ODE-Net replaces: stem, pre-activation residual blocks, head."""

    stem: Annotated[Stem, "conv: 576,778 parameters; residual: 601,482, the paper's 0.60M"] = "conv"
    width: Width = 64
    blocks: Annotated[Count, "residual blocks; 6 is the paper's"] = 6
    step: Annotated[Positive | None, "h in y + h F(y); null: 1, or 1 / blocks if tied"] = None
    double_at: Annotated[
        tuple[Count, ...], "epochs after which the depth is doubled and h halved, each block followed by its copy"
    ] = ()
    tied: Annotated[bool, "true: one block at all depths, with time as an input; Euler's method on the ODE-Net"] = False


@declaration
class RevNet(Model, name="revnet"):
    """RevNet (Gomez et al. 2017): residual blocks that can be run backwards, so that no activation is kept."""

    stem: Stem = "conv"
    width: Annotated[Count, "channels of the state, split into two halves, each of which changes the other"] = 64
    blocks: Blocks = 6


@declaration
class Hamiltonian(Model, name="hamiltonian"):
    """Reversible nets that are discrete mechanics (Chang et al. 2018): stable at any depth; no activation is kept."""

    stem: Stem = "conv"
    width: Annotated[Count, "channels of the state, half of them positions, half momenta"] = 64
    blocks: Blocks = 6
    step: Annotated[Positive, "h; stable while h^2 |K|^2 is below about 4"] = 1.0
    scheme: Annotated[Literal["verlet", "leapfrog"], "verlet: q and p in turn; leapfrog: y'' = -K^T tanh(K y + b)"] = (
        "verlet"
    )


@declaration
class Plain(Model, name="plain"):
    """The residual net without its skips: what the skips are worth."""

    stem: Stem = "conv"
    width: Width = 64
    blocks: Blocks = 6


@declaration
class StemHead(Model, name="stem"):
    """Stem and head with nothing in between (132,874 parameters): what the depth is worth, which on MNIST is little."""

    stem: Stem = "conv"
    width: Width = 64


@declaration
class Mlp(Model, name="mlp"):
    """One hidden layer (LeCun et al. 1998), the first row of Chen et al. 2018, table 1."""

    hidden: Annotated[Count, "hidden units; 300 gives 238,510 parameters, the paper's 0.24M"] = 300


Estimate = Literal["exact", "hutchinson"]


@declaration
class ContinuousFlow(Model):
    """A density that an ODE carries to a standard normal; its log-determinant is a part of the state."""

    objective: Annotated[Objective, Reference("density"), "what the model is trained for"] = Objective("density")
    takes: Takes = ("vector",)
    uses: Uses = SOLVES
    t1: Annotated[Positive, "end time: the data are at t1, the normal at 0"] = 1.0
    learn_t1: Annotated[bool, "true: the end time is a parameter, which starts at t1"] = False
    divergence: Annotated[
        Estimate, "in training; exact: the whole trace; hutchinson: its estimate by one vector of noise per solve"
    ] = "exact"
    noise: Annotated[Literal["rademacher", "gaussian"], "of hutchinson: each component -1 or 1, or normal"] = (
        "rademacher"
    )
    test_divergence: Annotated[Estimate, "in testing, whatever training used"] = "exact"
    norm: Annotated[
        Literal["full", "point"], "what the solver's error norm sees; full: the point and log p; point: the point"
    ] = "full"
    test_tolerance: Annotated[
        Tolerance | None,
        "of the solver in testing, also where training takes fixed steps: a likelihood is one only if its solve is "
        "accurate; null: tested as trained",
    ] = 1e-5


@declaration
class Cnf(ContinuousFlow, name="cnf"):
    """The continuous normalizing flow of Chen et al. 2018, section 4: gated planar units, whose trace has a closed form
    and whose weights a small net makes out of t."""

    chooses: ClassVar = {"data": "8gaussians", "gradient": "backprop", "optimizer": "adam"}

    uses: Uses = ("solver", "gradient", "regularizer")
    t1: Annotated[Positive, "end time: the data are at t1, the normal at 0; the authors' 10"] = 10.0
    units: Annotated[Count, "M of the paper"] = 64
    hidden: Annotated[Count, "width of the net that makes the weights"] = 32


@declaration
class Ffjord(ContinuousFlow, name="ffjord"):
    """FFJORD (Grathwohl et al. 2019): a continuous normalizing flow along any dynamics."""

    chooses: ClassVar = {"data": "8gaussians", "dynamics": "time_mlp", "gradient": "backprop", "optimizer": "adam"}

    takes: Takes = ("vector", "image")
    blocks: Annotated[Count, "flows one after another, each with dynamics of its own"] = 1
    batch_norm: Annotated[bool, "batch normalization by moving averages between two blocks"] = True
