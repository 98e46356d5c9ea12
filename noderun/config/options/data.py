"""Data: where batches come from."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Count, FolderName, Fraction, NotNegative, Positive, Seed, Share, Task

Planar = Literal[
    "8gaussians", "checkerboard", "moons", "circles", "cnf_circles", "rings", "2spirals", "swissroll", "pinwheel"
]
EITHER = "training examples, and as many again for the test, null: 2000; of a density as of 8gaussians"
SOURCE = "set of points from which a flow to this one begins; null: a standard normal"
BatchSize = Annotated[Count, "examples per step"]


@dataclass(frozen=True)
class Data(Option, group="data"):
    """Where batches come from."""

    name: Annotated[FolderName, FACT]
    root: Annotated[str, "folder in which a set that has files looks for them"] = "data"
    download: Annotated[bool, "a set that has files fetches those that are missing"] = True
    limit: Annotated[Count | None, "training examples only, of classes balanced over them; null: all"] = None
    batch_size: BatchSize = 64
    augment: Annotated[bool, FACT] = False
    source: Annotated[Planar | None, FACT] = None
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@declaration
class Images(Data):
    """Images: with classes; for a flow points of a density, dequantized; for an autoencoder in black and white."""

    augment: Annotated[bool, "random crop with padding 4, and flip if a mirror image keeps its class"] = False


@declaration
class Mnist(Images, name="mnist"):
    """MNIST (LeCun et al. 1998): 60000 training and 10000 test images, 28x28. About 11 MB."""

    batch_size: Annotated[Count, "examples per step; Chen et al. 2018"] = 128


class Mnist5k(Images, name="mnist5k"):
    """Real MNIST that ships with the package: the first 400 of each digit of its training set, the first 100 of each of
    its test set. Nothing to download; enough to tell models apart."""


@declaration
class FashionMnist(Images, name="fashion_mnist"):
    """Fashion-MNIST (Xiao et al. 2017): clothes in MNIST's shape, and harder. About 30 MB."""

    batch_size: BatchSize = 128


@declaration
class Cifar10(Images, name="cifar10"):
    """CIFAR-10 (Krizhevsky 2009): 50000 training and 10000 test images, 3x32x32. About 170 MB."""

    batch_size: Annotated[Count, "examples per step; usual for residual nets"] = 128


class Digits(Images, name="digits"):
    """8x8 digits of scikit-learn (1797, the last 360 are the test set): the quickest real images there are."""


@declaration
class CaltechSilhouettes(Images, name="caltech_silhouettes"):
    """Outlines of objects in black and white (Marlin et al. 2010), 28x28, for model=vae: 4100 to train, 2264 to
    validate, 2307 to test. About 1 MB."""

    batch_size: Annotated[Count, "examples per step; van den Berg et al. 2018"] = 100


@declaration
class FreyFaces(Images, name="freyfaces"):
    """1965 images of one face (Roweis), 28x20, in 256 levels, for model=vae or as points of a density: 1565 to train,
    200 to validate, 200 to test. About 1 MB."""

    batch_size: Annotated[Count, "examples per step; van den Berg et al. 2018"] = 100


@declaration
class Rows(Data):
    """A table whose rows are points of a density, standardized for the flow; its NLL is in the table's units."""

    batch_size: Annotated[Count, "examples per step; Grathwohl et al. 2019"] = 1000
    columns: Annotated[tuple[str, ...], "those to learn, by name, or 'column 1', ... without names; []: all"] = ()
    valid: Annotated[Fraction, "share of the rows to validate on"] = 0.1
    test: Annotated[Fraction, "share of the rows to test on"] = 0.1
    split_seed: Annotated[Seed, "of the order in which rows are shared out; not the run's"] = 0
    dequantize: Annotated[bool, "noise of one quantum on discrete columns, on which a density has no bound"] = False


@declaration
class Table(Rows, name="table"):
    """A table of your own, as a density: data.path=FILE."""

    path: Annotated[str | None, ".csv, .npy, .txt in columns, or .npz with arrays train, test and perhaps valid"] = None
    valid_path: Annotated[str | None, "a file of its own for the rows to validate on"] = None
    test_path: Annotated[str | None, "a file of its own for the rows to test on"] = None


class Kin8nm(Rows, name="kin8nm"):
    """Forward kinematics of a robot arm (Delve), as a density: 8192 rows of 9 continuous columns. About 1 MB."""


class PowerPlant(Rows, name="power_plant"):
    """Combined cycle power plant (UCI), as a density: 9568 rows of 5 discrete columns: add data.dequantize=true."""


class Protein(Rows, name="protein"):
    """Protein tertiary structure (UCI), as a density: 45730 rows of 10 discrete columns: add data.dequantize=true."""


class Naval(Rows, name="naval"):
    """Naval propulsion plant (UCI): 11934 rows of 18 columns. Two are constant and one is a copy: name others in
    data.columns."""


@declaration
class Benchmark(Data):
    """A table as Papamakarios et al. (2017) prepared it, from their files under data.root, in nats of that table."""

    batch_size: Annotated[Count, "examples per step; Grathwohl et al. 2019"] = 1000


class Power(Benchmark, name="power"):
    """POWER as Papamakarios et al. (2017) prepared it: 6 columns, from data.root/power/data.npy; not to be fetched."""


class Gas(Benchmark, name="gas"):
    """GAS as Papamakarios et al. (2017) prepared it: 8 columns, from data.root/gas/ethylene_CO.csv, which their pickle
    becomes; not to be fetched."""


class Hepmass(Benchmark, name="hepmass"):
    """HEPMASS as Papamakarios et al. (2017) prepared it: 21 columns, from data.root/hepmass/1000_train.csv and
    1000_test.csv; not to be fetched."""


class MiniBooNE(Benchmark, name="miniboone"):
    """MINIBOONE as Papamakarios et al. (2017) prepared it: 43 columns, from data.root/miniboone/data.npy; not to be
    fetched."""


class Bsds300(Benchmark, name="bsds300"):
    """BSDS300 as Papamakarios et al. (2017) prepared it: 63 columns, from data.root/BSDS300/BSDS300.hdf5, which needs
    h5py; not to be fetched."""


@declaration
class Points(Data):
    """Points in space, generated rather than read."""

    examples: Annotated[Count, "training examples, and as many again for the test"] = 2000


@declaration
class Plane(Data):
    """A density of the plane in FFJORD's scale (Grathwohl et al. 2019); training draws fresh points in every batch."""

    batch_size: BatchSize = 512
    examples: Annotated[Count, "points per epoch; the test has 20000"] = 51_200
    source: Annotated[Planar | None, SOURCE] = None


class EightGaussians(Plane, name="8gaussians"):
    """Eight normals on a circle, in FFJORD's scale; entropy 2.832 nats."""


class Checkerboard(Plane, name="checkerboard"):
    """Eight squares of a checkerboard, in FFJORD's scale: a density with edges; entropy log 32 = 3.466 nats."""


class CnfCircles(Plane, name="cnf_circles"):
    """A circle inside a circle as in torchdiffeq's example cnf.py (Chen et al. 2018); entropy 0.788 nats."""


class Rings(Plane, name="rings"):
    """Four circles in each other, in FFJORD's scale; entropy 2.623 nats."""


class TwoSpirals(Plane, name="2spirals"):
    """Two arms of a spiral, in FFJORD's scale; entropy 2.645 nats."""


class Swissroll(Plane, name="swissroll"):
    """A spiral, in FFJORD's scale; entropy 2.670 nats."""


class Pinwheel(Plane, name="pinwheel"):
    """Five bent arms, in FFJORD's scale; entropy 2.317 nats."""


@declaration
class Circles(Data, name="circles"):
    """A circle inside a circle: two classes; for a flow a density in FFJORD's scale, of entropy 3.268 nats, from which
    training draws fresh points in every batch."""

    examples: Annotated[Count | None, EITHER] = None
    noise: Annotated[NotNegative | None, "standard deviation at radii 0.5 and 1; null: 0.05, or 0.08 of a density"] = (
        None
    )
    source: Annotated[Planar | None, SOURCE] = None


@declaration
class Moons(Data, name="moons"):
    """Two interleaved half circles: two classes; for a flow a density in FFJORD's scale, of entropy 2.394 nats, from
    which training draws fresh points in every batch."""

    examples: Annotated[Count | None, EITHER] = None
    noise: Annotated[NotNegative | None, "standard deviation at radius 1; null: 0.1"] = None
    source: Annotated[Planar | None, SOURCE] = None


@declaration
class UnnormalizedDensity(Data):
    """A density known up to a factor (Rezende and Mohamed 2015, table 1): there are no examples of it."""

    batch_size: BatchSize = 512
    examples: Annotated[Count, "points of the flow's normal per epoch; the test has 20000"] = 51_200


class U1(UnnormalizedDensity, name="u1"):
    """Energy U1 of Rezende and Mohamed (2015, table 1): a ring with two modes."""


class U2(UnnormalizedDensity, name="u2"):
    """Energy U2 of Rezende and Mohamed (2015, table 1): a sine wave that ends softly at |z1| = 4."""


class U3(UnnormalizedDensity, name="u3"):
    """Energy U3 of Rezende and Mohamed (2015, table 1): a sine wave with a detour; it ends as U2's."""


class U4(UnnormalizedDensity, name="u4"):
    """Energy U4 of Rezende and Mohamed (2015, table 1): a sine wave and a step down from it; they end as U2's."""


@declaration
class Sines(Points, name="sines"):
    """Two sine curves, one above the other (Dupont et al. 2019)."""

    shift: Annotated[float, "between the curves; the authors'"] = 1.4


@declaration
class Spheres(Points, name="spheres"):
    """A ball inside a shell (Dupont et al. 2019): no flow of the plane can part them by a line, only by tearing."""

    examples: Annotated[Count, "one inside to two outside; as many again for the test"] = 3000
    dimension: Annotated[Count, "of the space"] = 2


@declaration
class Crossing1d(Points, name="crossing_1d"):
    """Two groups of points on a line that have to change places (Dupont et al. 2019): a flow on the line cannot, and
    its squared error stays at 1 or above. For objective=regress without a readout: experiment=anode/crossing_1d."""

    batch_size: Annotated[Count, "examples per step; all of them at once"] = 256
    examples: Annotated[
        Count, "a batch is balanced if its size is even; training draws its points anew in every epoch"
    ] = 256


@declaration
class NestedShapes(Points, name="nested_shapes"):
    """A circle in a square that are to become a star in a clover: a map of the plane to be fitted, as in
    experiment=shapes/nested. A homeomorphism can do it; a net that folds the plane can, too."""

    batch_size: Annotated[Count, "examples per step; all of them at once"] = 256
    examples: Annotated[Count, "half on each outline; training draws its points anew in every epoch"] = 256
    turn: Annotated[float, "of the star, in full turns: the space between the outlines is twisted by as much"] = 0.25


@dataclass(frozen=True)
class SeriesData(Data):
    """Time series. A task that is asked of them is one of those that ``task`` lists."""

    task: Annotated[Task | None, Reference("${task}"), "what is asked of a series"] = None
    observed: Annotated[Share, "share of the points (of the history, in a forecast) that a model is given"] = 1.0
    history: Annotated[Share, "forecast: the first part of the time span, from which the rest is asked"] = 0.5
    valid: Annotated[Fraction, "share of the training series for validation: a run keeps the best weights there"] = 0.0
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
    valid: Annotated[Fraction, "share of set a for validation: a run keeps the weights that are best there"] = 0.2
    quantize: Annotated[NotNegative, "hours to which times are rounded; 0: minutes, as recorded"] = 0.1


@declaration
class LongCsv(SeriesData, name="long_csv"):
    """Series of your own: data.path=FILE.csv with a line for each value and columns id, time, channel and value."""

    task: Annotated[Task | None, Reference("${task}"), "null: classify if there is a label, else interpolate"] = None
    path: Annotated[str | None, "the file"] = None
    id: Annotated[str, "column that names the record"] = "id"
    time: Annotated[str, "column of the time; a record's times count from its first"] = "time"
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
