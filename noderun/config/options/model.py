"""Models: what is trained."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from noderun.config.options.objective import Objective
from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Activation, Count, FolderName, Index, NotNegative, Positive, Tolerance

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
    packages: Annotated[tuple[str, ...], FACT] = ()  # of an extra, without which the model cannot be made
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
    """The residual net that the ODE-Net replaces: stem, pre-activation residual blocks, head. On points, with
    stem=none, a block is x + h W2 tanh(W1 x)."""

    takes: Takes = ("image", "vector")
    stem: Annotated[Stem, "conv: 576,778 parameters; residual: 601,482, the paper's 0.60M"] = "conv"
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


Hidden = Annotated[tuple[Count, ...], "widths of the layers of each transform's net"]
KlWarmup = Annotated[Index, "training steps over which the weight of the KL divergence grows from 0 to 1"]


@declaration
class FlowMatching(Model, name="flow_matching"):
    """A continuous flow whose field is learned by regression on the velocities of paths from a source to the data
    (Lipman et al. 2023): training solves nothing, density and samples do. From data to data with data.source."""

    chooses: ClassVar = {"data": "8gaussians", "dynamics": "mlp", "optimizer": "adam"}

    objective: Annotated[Objective, Reference("flow_matching"), "regression; density trains by maximum likelihood"] = (
        Objective("flow_matching")
    )
    takes: Takes = ("vector", "image")
    uses: Uses = ("dynamics", "solver")
    path: Annotated[
        Literal["linear", "vp"],
        "linear: straight (Tong et al. 2024); vp: the variance-preserving diffusion of score matching, for its "
        "probability-flow ODE (Song et al. 2021)",
    ] = "linear"
    sigma: Annotated[NotNegative, "standard deviation around the linear path"] = 0.0
    coupling: Annotated[
        Literal["independent", "ot"],
        "ot: source and data of a batch are paired by exact optimal transport (needs noderun[flows])",
    ] = "independent"
    test_divergence: Annotated[Estimate, "of log p; exact: the whole trace; hutchinson: its estimate"] = "exact"
    test_tolerance: Annotated[Tolerance | None, "of the solver in testing; null: that of the solver"] = 1e-5
    transport_points: Annotated[Count, "test points between which distances are computed, if there is data.source"] = (
        2000
    )


@declaration
class PlanarNF(Model, name="planar_nf"):
    """Planar flows (Rezende and Mohamed 2015): layers z + u tanh(w'z + b)."""

    chooses: ClassVar = {"data": "8gaussians", "optimizer": "adam"}

    objective: Annotated[
        Objective, Reference("density"), "density: maximum likelihood; density_matching: of data that are an energy"
    ] = Objective("density")
    takes: Takes = ("vector",)
    layers: Count = 32
    formula: Annotated[
        Literal["encode", "decode"],
        "the direction of the formula, the other is a bisection: encode for density, decode for density_matching",
    ] = "encode"


@declaration
class ZukoFlow(Model):
    """A discrete flow of the library zuko."""

    chooses: ClassVar = {"data": "8gaussians", "optimizer": "adam"}

    objective: Annotated[Objective, Reference("density"), "maximum likelihood"] = Objective("density")
    takes: Takes = ("vector", "image")
    packages: Annotated[tuple[str, ...], FACT] = ("zuko",)
    transforms: Annotated[Count, "one after another; zuko's default"] = 3
    hidden_features: Hidden = (64, 64)


@declaration
class RealNVP(ZukoFlow, name="realnvp"):
    """RealNVP (Dinh et al. 2017) by zuko: affine coupling layers."""

    transforms: Annotated[Count, "coupling layers"] = 8
    randmask: Annotated[bool, "false: the halves take turns, even and odd; true: halves at random"] = False


@declaration
class NSF(ZukoFlow, name="nsf"):
    """Neural spline flow (Durkan et al. 2019) by zuko: autoregressive rational-quadratic splines on [-5, 5]."""

    bins: Annotated[Count, "of each spline; zuko's default"] = 8
    randperm: Annotated[bool, "false: the order is reversed at each transform; true: at random"] = False


@declaration
class MAF(ZukoFlow, name="maf"):
    """Masked autoregressive flow (Papamakarios et al. 2017) by zuko."""

    transforms: Annotated[Count, "one after another; the paper's 5"] = 5
    randperm: Annotated[bool, "false: the order is reversed at each transform; true: at random"] = False


@declaration
class Vae(Model, name="vae"):
    """A variational autoencoder (Kingma and Welling 2014) with perceptrons, whose posterior can be a flow."""

    chooses: ClassVar = {"gradient": "backprop", "optimizer": "adam"}

    objective: Annotated[Objective, Reference("elbo"), "minus the evidence lower bound"] = Objective("elbo")
    takes: Takes = ("image", "vector")
    uses: Uses = ("solver", "gradient")
    latent: Annotated[Count, "dimensions of z; the flow papers' 64"] = 64
    hidden: Annotated[tuple[Count, ...], "widths of the encoder's layers; the decoder's are these, backwards"] = (
        300,
        300,
    )
    posterior: Annotated[
        Literal["none", "planar", "ffjord"], "the flow after the normal; its parameters are the encoder's"
    ] = "none"
    layers: Annotated[Count, "of posterior=planar"] = 16
    rank: Annotated[Count, "of posterior=ffjord: by how much its weights differ between examples"] = 4
    flow_hidden: Annotated[tuple[Count, ...], "widths of the layers of posterior=ffjord"] = (128, 128)
    kl_warmup: KlWarmup = 0


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
    kl_warmup: KlWarmup = 0
    label_weight: Annotated[NotNegative, "of the loss of a label beside the ELBO; Rubanova et al. take 100"] = 1.0


@dataclass(frozen=True)
class ObservedModel(Model):
    """A model of series that are the states of a system, solved from the first."""

    takes: Takes = ("series",)
    uses: Uses = ("dynamics", "solver", "gradient")
    objective: Annotated[
        Objective,
        Reference("trajectory"),
        "trajectory: what was observed along it; derivative: the field at observed states, without a solve",
    ] = Objective("trajectory")


@declaration
class NeuralOde(ObservedModel, name="neural_ode"):
    """A net as the field of states that are observed (Chen et al. 2018)."""

    chooses: ClassVar = {"data": "cubic_spiral", "dynamics": "mlp", "optimizer": "adam", "gradient": "checkpointed"}

    order: Annotated[Literal[1, 2], "2: the state is positions and their speeds, and the net the acceleration"] = 1


@declaration
class HamiltonianNn(ObservedModel, name="hamiltonian_nn"):
    """A net as the energy of positions and momenta, which then move by Hamilton's equations (Greydanus et al. 2019).
    model=hamiltonian is another thing: a classifier whose layers are steps of such equations."""

    chooses: ClassVar = {"data": "two_body", "optimizer": "adam", "gradient": "checkpointed"}

    uses: Uses = ("solver", "gradient")
    hidden: Annotated[Count, "width of the layers in between; the authors'"] = 200
    layers: Annotated[Count, "linear maps; the authors'"] = 3


@declaration
class Physics(ObservedModel, name="physics"):
    """A known f whose parameters are unknown: system identification by maximum likelihood. `noderun evaluate
    run=FOLDER figures=parameters` shows them with intervals."""

    chooses: ClassVar = {
        "data": "lynx_hare",
        "dynamics": "lotka_volterra",
        "optimizer": "lbfgs",
        "gradient": "checkpointed",
    }

    noise: Annotated[Literal["normal", "lognormal"], "of the observations around the trajectory"] = "normal"
    initial: Annotated[Literal["observed", "learned"], "the first state; learned: one per training series"] = "observed"
    starts: Annotated[Count, "training begins at the likeliest of so many points around the first guess"] = 1
    spread: Annotated[Positive, "standard deviation of those points, of logarithms where a parameter is positive"] = 0.5
    correction: Annotated[Index, "hidden units of a net that is added to f; 0: none"] = 0


@declaration
class Hybrid(Physics, name="hybrid"):
    """Physics with events that reset the state, each series at its own times: parameters of the events are learned
    through the times at which they happen."""

    chooses: ClassVar = {
        "data": "bouncing_ball",
        "dynamics": "bouncing_ball",
        "optimizer": "adam",
        "gradient": "checkpointed",
    }

    initial: Annotated[Literal["observed", "learned"], "the first state; learned: one per training series"] = "learned"
    own: Annotated[bool, "each series has parameters of its own; false: all share them"] = True
