"""Models of a density: continuous and discrete flows, and the autoencoder whose posterior can be one."""

from typing import Annotated, ClassVar, Literal

from noderun.config.options.model import SOLVES, Model, Takes, Uses
from noderun.config.options.objective import Objective
from noderun.config.options.option import FACT, Reference, declaration
from noderun.config.options.types import Count, KlWarmup, NotNegative, Positive, Tolerance

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
        Literal["independent", "ot", "conditional_ot"],
        "ot: source and data of a batch are paired by exact optimal transport; conditional_ot, for data.classes=true: "
        "the cost contains the class, so that pairs are within one (both need noderun[flows])",
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


Hidden = Annotated[tuple[Count, ...], "widths of the layers of each transform's net"]


@declaration
class ZukoFlow(Model):
    """A flow of the library zuko."""

    chooses: ClassVar = {"data": "8gaussians", "optimizer": "adam"}

    objective: Annotated[Objective, Reference("density"), "maximum likelihood"] = Objective("density")
    takes: Takes = ("vector", "image")
    packages: Annotated[tuple[str, ...], FACT] = ("zuko",)
    hidden_features: Hidden = (64, 64)


@declaration
class RealNVP(ZukoFlow, name="realnvp"):
    """RealNVP (Dinh et al. 2017) by zuko: affine coupling layers."""

    transforms: Annotated[Count, "coupling layers"] = 8
    randmask: Annotated[bool, "false: the halves take turns, even and odd; true: halves at random"] = False


@declaration
class NSF(ZukoFlow, name="nsf"):
    """Neural spline flow (Durkan et al. 2019) by zuko: autoregressive rational-quadratic splines on [-5, 5]."""

    transforms: Annotated[Count, "one after another; zuko's default"] = 3
    bins: Annotated[Count, "of each spline; zuko's default"] = 8
    randperm: Annotated[bool, "false: the order is reversed at each transform; true: at random"] = False


@declaration
class MAF(ZukoFlow, name="maf"):
    """Masked autoregressive flow (Papamakarios et al. 2017) by zuko."""

    transforms: Annotated[Count, "one after another; the paper's 5"] = 5
    randperm: Annotated[bool, "false: the order is reversed at each transform; true: at random"] = False


@declaration
class ZukoCNF(ZukoFlow, name="zuko_cnf"):
    """The continuous flow of zuko, with its own solver, tolerances (1e-5, 1e-6) and adjoint: a rival of ffjord."""

    hidden_features: Annotated[tuple[Count, ...], "widths of the net's layers"] = (64, 64, 64)
    freqs: Annotated[Count, "of the sines and cosines by which the net sees the time; zuko's default"] = 3
    exact: Annotated[bool, "true: the whole trace; false: Hutchinson's estimate, in testing too"] = True


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
