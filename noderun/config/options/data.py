"""Data: where batches come from."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from noderun.config.options.option import FACT, Option, declaration
from noderun.config.options.types import Count, FolderName, Fraction

BatchSize = Annotated[Count, "examples per step"]
Planar = Literal[
    "8gaussians", "checkerboard", "moons", "circles", "cnf_circles", "rings", "2spirals", "swissroll", "pinwheel"
]
SOURCE = "set of points from which a flow to this one begins; null: a standard normal"
VALIDATION = "share of the training examples that is kept for validation: a run keeps the weights that are best there"
CLASSES = "true: the density given the class that a point was drawn from, for model=flow_matching"


@dataclass(frozen=True)
class Data(Option, group="data"):
    """Where batches come from."""

    name: Annotated[FolderName, FACT]
    root: Annotated[str, "folder in which a set that has files looks for them"] = "data"
    download: Annotated[bool, "a set that has files fetches those that are missing"] = True
    limit: Annotated[Count | None, "training examples only, of classes balanced over them; null: all"] = None
    test_limit: Annotated[Count | None, "test examples, of classes balanced over them; null: all"] = None
    batch_size: BatchSize = 64
    validation: Annotated[Fraction, VALIDATION] = 0.0
    augment: Annotated[bool, FACT] = False
    source: Annotated[Planar | None, FACT] = None
    classes: Annotated[bool, FACT] = False
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
    validation: Annotated[Fraction, FACT] = 0.0  # a split of its own


@declaration
class FreyFaces(Images, name="freyfaces"):
    """1965 images of one face (Roweis), 28x20, in 256 levels, for model=vae or as points of a density: 1565 to train,
    200 to validate, 200 to test. About 1 MB."""

    batch_size: Annotated[Count, "examples per step; van den Berg et al. 2018"] = 100
    validation: Annotated[Fraction, FACT] = 0.0  # a split of its own
