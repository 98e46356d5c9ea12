"""Models: what is trained."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from noderun.config.options.objective import Objective
from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Activation, Count, FolderName, Index, NotNegative, Positive

Part = Literal["dynamics", "solver", "gradient", "regularizer"]
Takes = Annotated[tuple[str, ...], FACT]
Uses = Annotated[tuple[Part, ...], FACT]
SOLVES: tuple[Part, ...] = ("dynamics", "solver", "gradient", "regularizer")
Stem = Literal["conv", "residual", "linear", "none"]
Head = Literal["pool", "flatten", "none"]
Width = Annotated[Count, "channels of the state"]
EulerSteps = Annotated[
    Index, "of the ODE between two observations, as in the code of Rubanova et al.; 0: the solver as chosen"
]
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


@dataclass(frozen=True)
class SeriesModel(Model):
    """A model of time series, trained for what the task of its data asks."""

    chooses: ClassVar = {"data": "spirals", "optimizer": "adam"}

    takes: Takes = ("series",)
    objective: Annotated[
        Objective, Reference("series"), "series: cross entropy of classes, squared error of values, as the task asks"
    ] = Objective("series")


@declaration
class Rnn(SeriesModel, name="rnn"):
    """A GRU that is given the path, its increments, the gaps in time and what was observed: the plain rival."""

    hidden: Annotated[Count, "size of the hidden state"] = 64


@dataclass(frozen=True)
class Controlled(SeriesModel):
    """A model that is driven by a path through the observations."""

    time: Annotated[bool, "true: time is a channel of the path"] = True
    initial: Annotated[
        float | None,
        "value of a channel before its first observation; null: that observation, which looks ahead, and a series of "
        "which a channel was never observed is refused",
    ] = None


@declaration
class NeuralCde(Controlled, name="neural_cde"):
    """A neural controlled differential equation, dz = f(z) dX, driven by a path X through the observations (Kidger et
    al. 2020). Knots are whole numbers on the clock of the solve: solver=knots takes one step from each to the next."""

    chooses: ClassVar = {**SeriesModel.chooses, "solver": "knots", "gradient": "backprop"}

    uses: Uses = ("solver", "gradient", "regularizer")
    hidden: Annotated[Count, "size of z"] = 32
    width: Annotated[Count, "of the hidden layers of f"] = 64
    layers: Annotated[Count, "hidden layers of f, before a last one with tanh"] = 1
    activation: Annotated[Activation, "of the hidden layers"] = "silu"
    interpolation: Annotated[
        Literal["hermite", "linear", "rectilinear", "natural"],
        "of the path: hermite: cubic, by backward differences; rectilinear: time first, then values; natural: the "
        "cubic spline, which looks ahead, for one output per series. A step from knot to knot sees its increment alone",
    ] = "hermite"


@declaration
class LogNcde(Controlled, name="log_ncde"):
    """A neural controlled differential equation by the log-ODE method of depth 2 (Walker et al. 2024): a step takes a
    window of intervals by its increment and its Levy area. One output per series."""

    chooses: ClassVar = NeuralCde.chooses

    uses: Uses = ("solver", "gradient", "regularizer")
    hidden: Annotated[Count, "size of z"] = 32
    width: Annotated[Count, "of the hidden layers of f"] = 64
    layers: Annotated[Count, "hidden layers of f, before a last one with tanh"] = 1
    activation: Annotated[Activation, "of the hidden layers"] = "silu"
    window: Annotated[Count, "intervals per step; the authors' 4"] = 4


@declaration
class LinearCde(Controlled, name="linear_cde"):
    """A linear controlled equation with block-diagonal matrices (SLiCE, Walker et al. 2025), exact for a linear path up
    to the order of a series, by a scan."""

    blocks: Annotated[Count, "of the matrices"] = 8
    size: Annotated[Count, "rows of a block"] = 8
    order: Annotated[Count, "of the series of exp in an interval"] = 3


@declaration
class Ssm(SeriesModel, name="ssm"):
    """Diagonal linear state-space models with the time steps of the data (as S5, Smith et al. 2023, and LRU, Orvieto et
    al. 2023), by a scan."""

    width: Annotated[Count, "of the layers between"] = 64
    state: Annotated[Count, "complex size of the state of a layer"] = 64
    layers: Count = 2


@declaration
class GruD(SeriesModel, name="gru_d"):
    """GRU-D (Che et al. 2018): missing inputs and the hidden state decay with the time since the last observation."""

    hidden: Annotated[Count, "size of the hidden state"] = 64


@declaration
class OdeRnn(SeriesModel, name="ode_rnn"):
    """ODE-RNN (Rubanova et al. 2019): the hidden state follows an ODE between observations, a GRU cell at each."""

    chooses: ClassVar = {"data": "spirals", "dynamics": "mlp", "gradient": "backprop", "optimizer": "adam"}

    uses: Uses = ("dynamics", "solver", "gradient")
    hidden: Annotated[Count, "size of the hidden state"] = 20
    euler_steps: EulerSteps = 1


@declaration
class LatentOde(SeriesModel, name="latent_ode"):
    """Latent ODE (Chen et al. 2018; Rubanova et al. 2019): a variational autoencoder of series whose decoder solves an
    ODE from a latent state at time 0."""

    chooses: ClassVar = {"data": "spirals", "dynamics": "mlp", "gradient": "backprop", "optimizer": "adam"}

    objective: Annotated[
        Objective, Reference("elbo"), "elbo; or series: squared error or cross entropy of the posterior mean alone"
    ] = Objective("elbo")
    uses: Uses = ("dynamics", "solver", "gradient")
    latent: Annotated[Count, "size of z; 4 is Chen et al.'s for the spirals"] = 4
    encoder: Annotated[
        Literal["rnn", "ode_rnn"], "rnn: a GRU backward in time (Chen et al.); ode_rnn: Rubanova et al.'s"
    ] = "rnn"
    hidden: Annotated[Count, "size of the encoder's state"] = 25
    euler_steps: EulerSteps = 1
    decoder: Annotated[Index, "hidden units from z to the values; 0: a linear map"] = 20
    noise: Annotated[Positive, "standard deviation of the values about the path, in units of each channel's own"] = 0.1
    poisson: Annotated[bool, "the times of observations are a Poisson process whose rate is a function of z"] = False
    samples: Annotated[Count, "draws of z(0) per series in training; Rubanova et al. take 3"] = 1
    kl_warmup: Annotated[Index, "steps over which the weight of the KL grows from 0 to 1"] = 0
    label_weight: Annotated[NotNegative, "of the loss of a label beside the ELBO; Rubanova et al. take 100"] = 1.0
