"""Models of time series: recurrent nets, latent and controlled equations, observed systems."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from noderun.config.options.model import Model, Takes, Uses
from noderun.config.options.objective import Objective
from noderun.config.options.option import FACT, Reference, declaration
from noderun.config.options.types import Activation, Count, Index, KlWarmup, NotNegative, Positive

EulerSteps = Annotated[
    Index, "of the ODE between two observations, as in the code of Rubanova et al.; 0: the solver as chosen"
]


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
class Ssm(SeriesModel, name="ssm"):
    """Diagonal linear state-space models with the time steps of the data (as S5, Smith et al. 2023, and LRU, Orvieto et
    al. 2023), by a scan."""

    width: Annotated[Count, "of the layers between"] = 64
    state: Annotated[Count, "complex size of the state of a layer"] = 64
    layers: Count = 2


@declaration
class LatentOde(SeriesModel, name="latent_ode"):
    """Latent ODE (Chen et al. 2018; Rubanova et al. 2019): a variational autoencoder of series whose decoder solves an
    ODE from a latent state at time 0."""

    chooses: ClassVar = {"data": "spirals", "dynamics": "mlp", "gradient": "backprop", "optimizer": "adam"}

    objective: Annotated[
        Objective, Reference("elbo"), "elbo; or series: squared error or cross entropy of the posterior mean alone"
    ] = Objective("elbo")
    uses: Uses = ("dynamics", "solver", "gradient")
    latent: Annotated[Count, "size of z; Chen et al. take 4 for the spirals, and 25 and 20 for encoder and decoder"] = 8
    lift: Annotated[Count | None, "size of the ODE's state, which a net makes of z(0); null: that is the start"] = None
    encoder: Annotated[
        Literal["rnn", "ode_rnn"], "rnn: a GRU backward in time (Chen et al.); ode_rnn: Rubanova et al.'s"
    ] = "rnn"
    hidden: Annotated[Count, "size of the encoder's state"] = 64
    euler_steps: EulerSteps = 1
    decoder: Annotated[Index, "hidden units from z to the values; 0: a linear map"] = 64
    noise: Annotated[Positive, "standard deviation of the values about the path, in units of each channel's own"] = 0.1
    poisson: Annotated[bool, "the times of observations are a Poisson process whose rate is a function of z"] = False
    samples: Annotated[Count, "draws of z(0) per series in training; Rubanova et al. take 3"] = 1
    kl_warmup: KlWarmup = 0
    label_weight: Annotated[NotNegative, "of the loss of a label beside the ELBO; Rubanova et al. take 100"] = 1.0


@declaration
class NeuralFlow(SeriesModel, name="neural_flow"):
    """A latent ODE without a solve: a net that is invertible at every time is its solution (Bilos et al. 2021)."""

    objective: Annotated[
        Objective, Reference("elbo"), "elbo; or series: squared error or cross entropy of the posterior mean alone"
    ] = Objective("elbo")
    latent: Annotated[Count, "size of z"] = 8
    hidden: Annotated[Count, "size of the encoder's state"] = 64
    width: Annotated[Count, "of the hidden layer of each residual net"] = 64
    layers: Annotated[Count, "residual nets, each invertible"] = 4
    decoder: Annotated[Index, "hidden units from z to the values; 0: a linear map"] = 64
    noise: Annotated[Positive, "standard deviation of the values about the path, in units of each channel's own"] = 0.1
    samples: Annotated[Count, "draws of z(0) per series in training"] = 1
    kl_warmup: KlWarmup = 0
    label_weight: Annotated[NotNegative, "of the loss of a label beside the ELBO"] = 1.0


@declaration
class LatentSde(SeriesModel, name="latent_sde"):
    """Latent SDE (Li et al. 2020): a variational autoencoder of series whose latent path is random. Solvers are euler
    and milstein, and with model.interpretation=stratonovich also heun, midpoint and reversible_heun."""

    chooses: ClassVar = {"data": "stochastic_lorenz", "solver": "euler", "gradient": "backprop", "optimizer": "adam"}

    objective: Annotated[
        Objective,
        Reference("elbo"),
        "elbo: paths are simulated; sde_matching: without a solve, for model.posterior=marginals",
    ] = Objective("elbo")
    uses: Uses = ("solver", "gradient")
    stochastic: Annotated[bool, FACT] = True
    latent: Annotated[Count, "size of z; 4 is the authors' for the Lorenz system"] = 4
    form: Annotated[
        Literal["free", "lsde", "lnsde", "gsde"],
        "of drift and diffusion; free: diffusion of each component by a net of it (Li et al.); of Oh et al. 2024: "
        "lsde, diffusion s(t); lnsde, s(t) z; gsde, drift p(t, z) z and diffusion s(t) z",
    ] = "free"
    posterior: Annotated[
        Literal["drift", "marginals"],
        "drift: a net of z and the context (Li et al.); marginals: normal ones of z(t), which give the drift (Bartosh "
        "et al. 2025)",
    ] = "drift"
    interpretation: Annotated[
        Literal["ito", "stratonovich"], "of drift and diffusion; the solver's must be the same"
    ] = "ito"
    hidden: Annotated[Count, "size of the encoder's GRU"] = 64
    width: Annotated[Count, "of the hidden layers of drift, diffusion and posterior"] = 64
    layers: Annotated[Count, "linear maps of drift and posterior"] = 3
    activation: Annotated[Activation, "of the hidden layers; softplus is the authors'"] = "silu"
    decoder: Annotated[Index, "hidden units from z to the values; 0: a linear map, the authors'"] = 0
    noise: Annotated[Positive, "standard deviation of the values about the path, in units of each channel's own"] = 0.01
    samples: Annotated[Count, "draws of the path per series in training"] = 1
    kl_warmup: KlWarmup = 0
    label_weight: Annotated[NotNegative, "of the loss of a label beside the ELBO"] = 1.0


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
class LinearCde(Controlled, name="linear_cde"):
    """A linear controlled equation with block-diagonal matrices (SLiCE, Walker et al. 2025), exact for a linear path up
    to the order of a series, by a scan."""

    blocks: Annotated[Count, "of the matrices"] = 8
    size: Annotated[Count, "rows of a block"] = 8
    order: Annotated[Count, "of the series of exp in an interval"] = 3


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


@dataclass(frozen=True)
class RolledOut(ObservedModel):
    """A model of fields on a grid, rolled out from the first."""

    objective: Annotated[
        Objective,
        Reference("rollout"),
        "rollout: the states asked for, with nRMSE; derivative: the true u_t at given states, without a solve",
    ] = Objective("rollout")


@declaration
class NeuralPde(RolledOut, name="neural_pde"):
    """A partial differential equation u_t = N(u) with a net as N on the points of a grid: the method of lines, by any
    solver. Time counts the steps of the data."""

    chooses: ClassVar = {"data": "burgers", "dynamics": "conv1d", "optimizer": "adam", "gradient": "checkpointed"}


@declaration
class ConvnetStepper(RolledOut, name="convnet_stepper"):
    """A net that maps a state to the next, u + N(u), as APEBench's emulators (Koehler et al. 2024): neural_pde with one
    Euler step per step of the data."""

    chooses: ClassVar = {"data": "burgers", "dynamics": "conv1d", "optimizer": "adam"}

    uses: Uses = ("dynamics",)
