"""Data sets of time series, generated, from files, and of a user's own."""

from dataclasses import dataclass
from typing import Annotated, Literal

from noderun.config.options.data import VALIDATION, Data
from noderun.config.options.option import Reference, declaration
from noderun.config.options.types import Count, Fraction, NotNegative, Positive, Seed, Share, Task
from noderun.config.validation import Constraint

GridPoints = Annotated[int, Constraint(lambda n: n >= 16, "a whole number from 16")]


@dataclass(frozen=True)
class SeriesData(Data):
    """Time series. A task that is asked of them is one of those that ``task`` lists."""

    task: Annotated[Task | None, Reference("${task}"), "what is asked of a series"] = None
    observed: Annotated[Share, "share of the points (of the history, in a forecast) that a model is given"] = 1.0
    history: Annotated[Share, "forecast: the first part of the time span, from which the rest is asked"] = 0.5
    standardize: Annotated[bool, "channels in units of their spread in training; errors are in the data's own"] = True
    score: Annotated[Literal["all", "held_out"], "interpolate: which points count; held_out: those not observed"] = (
        "all"
    )


@declaration
class Spirals(SeriesData, name="spirals"):
    """Plane spirals of both directions (Chen et al. 2018, section 5.1): 1000 series of 200 points, half of them
    history, and 200 more for the test, which is scored against the curve without its noise."""

    task: Annotated[
        Literal["forecast", "interpolate", "classify"] | None,
        Reference("${task}"),
        "null: forecast; classify: the direction",
    ] = None
    batch_size: Annotated[Count, "series per step"] = 100
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 1000
    points: Annotated[Count, "of the history, and as many after it"] = 100
    noise: Annotated[NotNegative, "standard deviation; the paper does not state its own"] = 0.1


@declaration
class Signature(Data, name="signature"):
    """Random walks in six channels, and the sign of one term of their signature (Walker et al. 2024): what a model of
    paths has to learn is exactly known, and the harder the deeper it is. 4000 more for the test."""

    depth: Annotated[Literal[1, 2, 3, 4], "of the term: 2, then 5, 0 and 3 are its channels"] = 3
    examples: Annotated[Count, "training paths of 100 points"] = 20_000


@declaration
class Sinusoids(SeriesData, name="sinusoids"):
    """x0 + sin(2 pi f t) with frequencies from 0.5 to 1, at irregular times (Rubanova et al. 2019, section 4.1)."""

    task: Annotated[
        Literal["interpolate", "forecast", "regress"] | None,
        Reference("${task}"),
        "null: interpolate; regress: the frequency",
    ] = None
    batch_size: Annotated[Count, "series per step; the authors'"] = 50
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 1000
    points: Annotated[Count, "of each series"] = 100
    noise: Annotated[NotNegative, "standard deviation"] = 0.1


@declaration
class Oscillators(SeriesData, name="oscillators"):
    """Damped linear oscillators in the plane, each at 20 times of its own: the data of diffrax's example of a
    latent ODE."""

    task: Annotated[Literal["interpolate", "forecast"] | None, Reference("${task}"), "null: interpolate"] = None
    batch_size: Annotated[Count, "series per step; the example's"] = 256
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 10_000
    points: Annotated[Count, "of each series"] = 20
    noise: Annotated[NotNegative, "standard deviation"] = 0.0


@declaration
class DampedPendulum(SeriesData, name="damped_pendulum"):
    """Pendulums with damping from 0.05 to 0.5, released at up to 2.5 rad: angle and angular velocity."""

    task: Annotated[
        Literal["interpolate", "forecast", "regress"] | None,
        Reference("${task}"),
        "null: interpolate; regress: the damping",
    ] = None
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 500
    points: Annotated[Count, "of each series"] = 100
    noise: Annotated[NotNegative, "standard deviation"] = 0.05


@declaration
class LotkaVolterra(SeriesData, name="lotka_volterra"):
    """Predator and prey with rates of their own in each series."""

    task: Annotated[
        Literal["forecast", "interpolate", "regress"] | None,
        Reference("${task}"),
        "null: forecast; regress: the two rates",
    ] = None
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 500
    points: Annotated[Count, "of each series"] = 100
    noise: Annotated[NotNegative, "standard deviation"] = 0.05


@declaration
class Lorenz(SeriesData, name="lorenz"):
    """Lorenz's chaotic system on its attractor, over two units of time."""

    task: Annotated[Literal["forecast", "interpolate"] | None, Reference("${task}"), "null: forecast"] = None
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 500
    points: Annotated[Count, "of each series"] = 100
    noise: Annotated[NotNegative, "standard deviation"] = 0.1


@declaration
class LynxHare(SeriesData, name="lynx_hare"):
    """Pelts of lynx and hare, 1900 to 1920: one series, which is the test too. From data.root/LynxHare."""

    task: Annotated[Literal["interpolate", "forecast"] | None, Reference("${task}"), "null: interpolate"] = None


@declaration
class JapaneseVowels(SeriesData, name="japanese_vowels"):
    """Nine speakers, 12 channels, 7 to 29 times (Kudo et al. 1999). From data.root/UEA/JapaneseVowels."""

    task: Annotated[Literal["classify", "interpolate", "forecast"] | None, Reference("${task}"), "null: classify"] = (
        None
    )


@declaration
class Mocap35(SeriesData, name="mocap35"):
    """CMU motion capture, subject 35: 16 series of 300 frames with 50 channels. From data.root/CMUMocap."""

    task: Annotated[Literal["forecast", "interpolate"] | None, Reference("${task}"), "null: forecast"] = None
    batch_size: Annotated[Count, "series per step; all of them"] = 16


@declaration
class MujocoForecast(SeriesData, name="mujoco_forecast"):
    """Hopper in MuJoCo, 100 series of 100 times with 14 channels. From data.root/MuJoCo."""

    task: Annotated[Literal["forecast", "interpolate"] | None, Reference("${task}"), "null: forecast"] = None


@declaration
class Physionet2012(SeriesData, name="physionet2012"):
    """PhysioNet's challenge of 2012: 48 hours of intensive care, 41 channels, 4000 stays to train and as many to
    test. From data.root/PhysioNet2012/raw."""

    task: Annotated[
        Literal["classify", "interpolate", "forecast"] | None, Reference("${task}"), "null: classify, death in hospital"
    ] = None
    batch_size: Annotated[Count, "stays per step; Rubanova et al.'s"] = 50
    validation: Annotated[Fraction, VALIDATION] = 0.2
    quantize: Annotated[NotNegative, "hours to which times are rounded; 0: minutes, as recorded"] = 0.1


@declaration
class LongCsv(SeriesData, name="long_csv"):
    """Series of your own: data.path=FILE.csv with a line for each value and columns id, time, channel and value."""

    task: Annotated[Task | None, Reference("${task}"), "null: classify if there is a label, else interpolate"] = None
    path: Annotated[str | None, "the file"] = None
    id: Annotated[str, "column that names the record"] = "id"
    time: Annotated[
        str, "column of the time; a record's times count from its first, in units of the longest record's span"
    ] = "time"
    channel: Annotated[str, "column that names what was measured"] = "channel"
    value: Annotated[str, "column of the value"] = "value"
    label: Annotated[str | None, "column of the class, or of the number, of a record"] = None
    covariates: Annotated[tuple[str, ...], "columns of numbers that are further channels, known at the start"] = ()
    test: Annotated[Fraction, "share of the records that tests"] = 0.2
    split_seed: Annotated[Seed, "draws the records that test"] = 0


@declaration
class Hopper(SeriesData, name="hopper"):
    """MuJoCo's hopper, which falls from random states (Rubanova et al. 2019): 200 times, 14 channels. Simulated
    anew in about 30 seconds; needs noderun[mujoco]."""

    task: Annotated[Literal["interpolate", "forecast"] | None, Reference("${task}"), "null: interpolate"] = None
    batch_size: Annotated[Count, "series per step; the authors'"] = 50
    examples: Annotated[Count, "series; the last fifth tests"] = 10_000


@declaration
class TwoBody(SeriesData, name="two_body"):
    """Orbits of two equal masses (Greydanus et al. 2019): positions and momenta in the plane, without noise; the test
    has a fifth as many orbits of its own."""

    task: Annotated[Literal["interpolate", "forecast"] | None, Reference("${task}"), "null: interpolate"] = None
    batch_size: Annotated[Count, "orbits per step"] = 20
    examples: Annotated[Count, "orbits; the authors'"] = 1000
    points: Annotated[Count, "per orbit, at equal distances; the authors'"] = 50
    span: Annotated[Positive, "of time; the authors'"] = 20.0
    noise: Annotated[NotNegative, "relative change of a circular orbit's speed at the start; the authors'"] = 0.05


@declaration
class BouncingBall(SeriesData, name="bouncing_ball"):
    """Heights of bouncing balls, each with a floor and a restitution of its own; the test asks for the same balls'
    heights without noise. All balls are one batch by default."""

    task: Annotated[Literal["interpolate"] | None, Reference("${task}"), "null: interpolate"] = None
    batch_size: Annotated[Count, "balls per step"] = 32
    examples: Annotated[Count, "balls"] = 32
    points: Annotated[Count, "heights per ball, at random times"] = 60
    span: Annotated[Positive, "seconds"] = 2.5
    noise: Annotated[NotNegative, "standard deviation of a height, in meters"] = 0.02


@declaration
class CubicSpiral(SeriesData, name="cubic_spiral"):
    """dy/dt = A y^3 in the plane, torchdiffeq's first example: training sees windows of one trajectory, the test is
    the whole of it from its start."""

    task: Annotated[Literal["interpolate"] | None, Reference("${task}"), "null: interpolate"] = None
    batch_size: Annotated[Count, "windows per step; the example's"] = 20
    points: Annotated[Count, "of the trajectory, over 25 units of time; the example's"] = 1000
    window: Annotated[Count, "points of a window; the example's"] = 10
    noise: Annotated[NotNegative, "standard deviation"] = 0.0


@declaration
class PointProcess(SeriesData, name="point_process"):
    """A cosine observed at the times of a Poisson process whose rate is known, for model=latent_ode model.poisson=true:
    the times are data, too. 500 series; a fifth as many for the test."""

    task: Annotated[Literal["interpolate", "forecast"] | None, Reference("${task}"), "null: interpolate"] = None
    batch_size: Annotated[Count, "series per step"] = 50
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 500
    rate: Annotated[Positive, "mean number of observations per unit of time"] = 20.0
    span: Annotated[Positive, "of time"] = 2.0
    noise: Annotated[NotNegative, "standard deviation of an observation"] = 0.1


@dataclass(frozen=True)
class StochasticData(SeriesData):
    """Series of a stochastic equation, at equal times from 0."""

    task: Annotated[Literal["interpolate", "forecast"] | None, Reference("${task}"), "null: interpolate"] = None
    batch_size: Annotated[Count, "series per step"] = 64
    examples: Annotated[Count, "training series; a fifth as many for the test"] = 1024
    points: Annotated[Count, "of each series"] = 41
    span: Annotated[Positive, "of time"] = 1.0
    noise: Annotated[NotNegative, "standard deviation of an observation about the path"] = 0.01


@declaration
class StochasticLorenz(StochasticData, name="stochastic_lorenz"):
    """Lorenz's system with additive noise from N(0, I), on t in [0, 1] every 0.025 (Li et al. 2020, section 7.2)."""

    sigma: Annotated[NotNegative, "diffusion of each component; the authors'"] = 0.15


@declaration
class Ou(StochasticData, name="ou"):
    """The Ornstein-Uhlenbeck process dy = theta (mu - y) dt + sigma dW, from about mu + 1."""

    span: Annotated[Positive, "of time"] = 4.0
    noise: Annotated[NotNegative, "standard deviation of an observation about the path"] = 0.05
    theta: Annotated[Positive, "rate of the return to mu"] = 1.0
    mu: Annotated[float, "mean of the process in the long run"] = 0.0
    sigma: Annotated[NotNegative, "diffusion"] = 0.5


@declaration
class Gbm(StochasticData, name="gbm"):
    """Geometric Brownian motion dy = mu y dt + sigma y dW, from about 1."""

    mu: Annotated[float, "rate of growth"] = 0.5
    sigma: Annotated[NotNegative, "diffusion at y = 1"] = 0.5


@dataclass(frozen=True)
class RolledOut(Data):
    """Trajectories of a partial differential equation on a periodic grid, to be rolled out from their first state."""

    task: Annotated[Literal["forecast"] | None, Reference("${task}"), "null: forecast"] = None
    batch_size: Annotated[Count, "windows per step; APEBench's"] = 20
    points: Annotated[GridPoints, "of the grid"] = 160
    examples: Annotated[Count, "training trajectories; the test has 30 others"] = 50
    steps: Annotated[Count, "of a training trajectory"] = 50
    test_steps: Annotated[Count, "of a test trajectory"] = 200
    unroll: Annotated[
        Count, "steps of the roll-out in training: an example is a window of so many; 1: one step ahead"
    ] = 1


@declaration
class Burgers(RolledOut, name="burgers"):
    """u_t + u u_x = viscosity u_xx on [0, 1): waves that steepen into fronts and decay, by APEBench's protocol (Koehler
    et al. 2024)."""

    viscosity: Annotated[Positive, "APEBench's diffusion difficulty of 1.5 on 160 points"] = 0.003125
    dt: Annotated[Positive, "time of a step; APEBench's convection difficulty of 1.5 on 160 points"] = 0.009375


@declaration
class KuramotoSivashinsky(RolledOut, name="kuramoto_sivashinsky"):
    """u_t + u u_x + u_xx + u_xxxx = 0, chaotic, on its attractor, by APEBench's protocol (Koehler et al. 2024)."""

    length: Annotated[Positive, "of the interval; APEBench's, 320/3"] = 106.66666666666667
    dt: Annotated[Positive, "time of a step; APEBench's, 4/9"] = 0.4444444444444444
