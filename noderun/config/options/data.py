"""Data: where batches come from."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from noderun.config.options.option import FACT, Option, Reference, declaration
from noderun.config.options.types import Count, FolderName, NotNegative, Share, Task

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
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@declaration
class Images(Data):
    """Images with classes."""

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
class Points(Data):
    """Points in space, generated rather than read."""

    examples: Annotated[Count, "training examples, and as many again for the test"] = 2000


@declaration
class Circles(Points, name="circles"):
    """A circle inside a circle."""

    noise: Annotated[NotNegative, "standard deviation"] = 0.05


@declaration
class Moons(Points, name="moons"):
    """Two interleaved half circles."""

    noise: Annotated[NotNegative, "standard deviation"] = 0.1


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


@dataclass(frozen=True)
class SeriesData(Data):
    """Time series. A task that is asked of them is one of those that ``task`` lists."""

    task: Annotated[Task | None, Reference("${task}"), "what is asked of a series"] = None
    observed: Annotated[Share, "share of the points (of the history, in a forecast) that a model is given"] = 1.0
    history: Annotated[Share, "forecast: the first part of the time span, from which the rest is asked"] = 0.5
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
