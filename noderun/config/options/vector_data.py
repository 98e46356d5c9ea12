"""Data sets of vectors: points, densities of the plane, energies and tables."""

from typing import Annotated, ClassVar

from noderun.config.options.data import CLASSES, SOURCE, VALIDATION, BatchSize, Data, Planar
from noderun.config.options.option import declaration
from noderun.config.options.types import Count, Fraction, NotNegative, Seed

OF_POINTS = {"dynamics": "mlp"}  # unless the model chooses: convolutions, the default, need images
EITHER = "training examples, and as many again for the test, null: 2000; of a density as of 8gaussians"


@declaration
class Rows(Data):
    """A table whose rows are points of a density, standardized for the flow; its NLL is in the table's units."""

    batch_size: Annotated[Count, "examples per step; Grathwohl et al. 2019"] = 1000
    columns: Annotated[tuple[str, ...], "those to learn, by name, or 'column 1', ... without names; []: all"] = ()
    validation: Annotated[Fraction, VALIDATION] = 0.1
    test: Annotated[Fraction, "share of the rows to test on"] = 0.1
    split_seed: Annotated[Seed, "of the order in which rows are shared out; not the run's"] = 0
    dequantize: Annotated[bool, "noise of one quantum on discrete columns, on which a density has no bound"] = False


@declaration
class Table(Rows, name="table"):
    """A table of your own, as a density: data.path=FILE."""

    path: Annotated[
        str | None, ".csv, .npy, .txt in columns, or .npz with arrays train, test and perhaps validation"
    ] = None
    validation_path: Annotated[str | None, "a file of its own for the rows to validate on"] = None
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

    chooses: ClassVar = OF_POINTS

    examples: Annotated[Count, "training examples, and as many again for the test"] = 2000


@declaration
class Plane(Data):
    """A density of the plane in FFJORD's scale (Grathwohl et al. 2019); training draws fresh points in every batch."""

    chooses: ClassVar = OF_POINTS

    batch_size: BatchSize = 512
    examples: Annotated[Count, "points per epoch; the test has 20000"] = 51_200
    source: Annotated[Planar | None, SOURCE] = None


@declaration
class Parts(Plane):
    """A density of the plane that is made of parts of equal probability."""

    classes: Annotated[bool, CLASSES] = False


class EightGaussians(Parts, name="8gaussians"):
    """Eight normals on a circle, in FFJORD's scale; entropy 2.832 nats."""


class Checkerboard(Parts, name="checkerboard"):
    """Eight squares of a checkerboard, in FFJORD's scale: a density with edges; entropy log 32 = 3.466 nats."""


class CnfCircles(Parts, name="cnf_circles"):
    """A circle inside a circle as in torchdiffeq's example cnf.py (Chen et al. 2018); entropy 0.788 nats."""


class Rings(Parts, name="rings"):
    """Four circles in each other, in FFJORD's scale; entropy 2.623 nats."""


class TwoSpirals(Parts, name="2spirals"):
    """Two arms of a spiral, in FFJORD's scale; entropy 2.645 nats."""


class Swissroll(Plane, name="swissroll"):
    """A spiral, in FFJORD's scale; entropy 2.670 nats."""


class Pinwheel(Parts, name="pinwheel"):
    """Five bent arms, in FFJORD's scale; entropy 2.317 nats."""


@declaration
class Circles(Data, name="circles"):
    """A circle inside a circle: two classes; for a flow a density in FFJORD's scale, of entropy 3.268 nats, from which
    training draws fresh points in every batch."""

    chooses: ClassVar = OF_POINTS

    examples: Annotated[Count | None, EITHER] = None
    noise: Annotated[NotNegative | None, "standard deviation at radii 0.5 and 1; null: 0.05, or 0.08 of a density"] = (
        None
    )
    source: Annotated[Planar | None, SOURCE] = None
    classes: Annotated[bool, CLASSES] = False


@declaration
class Moons(Data, name="moons"):
    """Two interleaved half circles: two classes; for a flow a density in FFJORD's scale, of entropy 2.394 nats, from
    which training draws fresh points in every batch."""

    chooses: ClassVar = OF_POINTS

    examples: Annotated[Count | None, EITHER] = None
    noise: Annotated[NotNegative | None, "standard deviation at radius 1; null: 0.1"] = None
    source: Annotated[Planar | None, SOURCE] = None
    classes: Annotated[bool, CLASSES] = False


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


@declaration
class Poisson(Data, name="poisson"):
    """-u'' = f on an interval, u = 0 at its ends: given are the coefficients of f in sines, asked is u on a grid. For
    objective=energy, which needs no solutions, as in experiment=energy/poisson, or objective=regress."""

    points: Annotated[Count, "of the grid, inside the interval"] = 31
    modes: Annotated[Count, "sines of f, with normal coefficients"] = 8
    examples: Annotated[Count, "training sources; the test has 200 others"] = 1000
