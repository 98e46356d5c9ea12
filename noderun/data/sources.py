"""The data sets, and the way from a name to a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from noderun.config.validation import nearest
from noderun.data import idx, vision
from noderun.data.curves import spirals
from noderun.data.dataset import Dataset
from noderun.data.digits import digits
from noderun.data.examples import check_examples, said
from noderun.data.files import DataError, DataMissing
from noderun.data.idx import fashion_mnist, mnist
from noderun.data.mnist5k import mnist5k
from noderun.data.points import circles, crossing_1d, moons, sines, spheres
from noderun.data.series import TARGETS
from noderun.data.signature import signature
from noderun.data.targets import Classes, Values


class Choice(Protocol):
    """The fields of ``settings.data``."""

    @property
    def name(self) -> str: ...
    @property
    def root(self) -> str: ...
    @property
    def download(self) -> bool: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def augment(self) -> bool: ...
    @property
    def options(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Source:
    """``read(root, augment, **options)`` never writes; the last two are None for a set that ships with the package.

    ``sample`` (image, vector or series) and ``target`` are known before anything is read, so that a model or an
    objective that does not fit them is refused before a run starts. ``require(root)`` raises DataMissing if files are
    not there, without reading them.
    """

    read: Callable[..., Dataset]
    sample: str
    target: type = Classes
    tasks: Mapping[str, type] = field(default_factory=dict)  # of a series: task -> target; the first is the natural one
    download: Callable[[Path], None] | None = None
    require: Callable[[Path], None] | None = None

    def target_of(self, options: Mapping[str, Any]) -> type:
        """The kind of target that the set has with these options, which may choose a task."""
        if not self.tasks:
            return self.target
        return self.tasks[options.get("task") or next(iter(self.tasks))]


def tasks(*names: str) -> dict[str, type]:
    """The tasks of a set, the natural one first, with their targets."""
    return {name: TARGETS[name] for name in names}


SETS: dict[str, Source] = {
    "mnist5k": Source(mnist5k, "image"),
    "digits": Source(digits, "image"),
    "mnist": Source(mnist, "image", download=partial(vision.download, "mnist"), require=partial(idx.require, "mnist")),
    "fashion_mnist": Source(
        fashion_mnist,
        "image",
        download=partial(vision.download, "fashion_mnist"),
        require=partial(idx.require, "fashion_mnist"),
    ),
    "cifar10": Source(
        vision.cifar10, "image", download=partial(vision.download, "cifar10"), require=vision.require_cifar10
    ),
    "crossing_1d": Source(crossing_1d, "vector", Values),
    "spheres": Source(spheres, "vector"),
    "sines": Source(sines, "vector"),
    "moons": Source(moons, "vector"),
    "circles": Source(circles, "vector"),
    "spirals": Source(spirals, "series", tasks=tasks("forecast", "interpolate", "classify")),
    "signature": Source(signature, "series"),
}


def load(data: Choice, device: torch.device | str, make: Callable[..., Dataset] | None = None) -> Dataset:
    """The chosen set on the device; ``make`` is a user's own class or function, called with the options alone."""
    if make is None:
        dataset = _read(data.name, Path(data.root), data.download, data.augment, **data.options)
    else:
        dataset = _made(make, data)
    limited = dataset if data.limit is None else dataset.limited(data.limit)
    return limited.to(device)


def fetch(name: str, root: Path | str) -> str:
    """Download what is missing under root, then check it; returns one sentence about what is there."""
    return _describe(name, _read(name, Path(root), download=True), Path(root))


def check(name: str, root: Path | str) -> str:
    """Verify the files under root without network; one sentence, or DataError."""
    return _describe(name, _read(name, Path(root), download=False), Path(root))


def require(name: str, root: Path | str) -> None:
    """Raise DataMissing if files of the set are not under root; their content is not checked."""
    source = _source(name)
    if source.require is not None:
        with _advised(name):
            source.require(Path(root))


@contextmanager
def _advised(name: str) -> Iterator[None]:
    try:
        yield
    except DataMissing as missing:
        advice = f"fetch it with `noderun data fetch {name}` or point data.root at a copy"
        raise DataMissing(f"{name}: {missing}; {advice}") from None


def _read(name: str, root: Path, download: bool, augment: bool = False, **options: Any) -> Dataset:
    source = _source(name)
    read = partial(source.read, root, augment, **options)
    if source.download is not None and not download:
        with _advised(name):
            return read()
    try:
        return read()
    except DataMissing as missing:
        if source.download is None:
            raise
        try:
            source.download(root)
        except DataError as error:
            raise DataError(f"{name}: {missing}, and {error}; point data.root at a copy") from error
        return read()


def _source(name: str) -> Source:
    if name not in SETS:
        raise DataError(f"no data set '{name}'{nearest(name, SETS)}")
    return SETS[name]


def _made(make: Callable[..., Dataset], data: Choice) -> Dataset:
    if data.augment:
        raise DataError(f"data.augment is for our image sets; {data.name} can augment in its own prepare")
    try:
        dataset = make(**data.options)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{data.name} could not be made: {said(error)}") from error
    if not isinstance(dataset, Dataset):
        raise DataError(f"{data.name}: expected a noderun.data.Dataset, got {type(dataset).__name__}")
    check_examples(dataset)
    return dataset


def _describe(name: str, dataset: Dataset, root: Path) -> str:
    check_examples(dataset)
    where = f"in {root.absolute()}" if SETS[name].download else "shipped with the package"
    return f"{name}: complete, {where}; {len(dataset.train)} training and {len(dataset.test)} test examples"
