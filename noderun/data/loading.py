"""The way from a set's name to its Dataset: found, fetched, read, checked, divided and moved to the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from noderun.config.validation import nearest
from noderun.data.dataset import Dataset
from noderun.data.densities import with_source
from noderun.data.examples import check_examples, said
from noderun.data.files import DataError, DataMissing, Unbounded
from noderun.data.sources import SETS, Source
from noderun.data.targets import TARGETS


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
    def test_limit(self) -> int | None: ...
    @property
    def validation(self) -> float: ...
    @property
    def augment(self) -> bool: ...
    @property
    def source(self) -> str | None: ...
    @property
    def classes(self) -> bool: ...
    @property
    def options(self) -> dict[str, Any]: ...


def load(
    data: Choice,
    device: torch.device | str,
    make: Callable[..., Dataset] | None = None,
    targets: tuple[type, ...] = TARGETS,
) -> Dataset:
    """The chosen set on the device, with the first of its targets that is among ``targets``.

    ``make`` is a user's own class or function, called with the options alone.
    """
    if make is None:
        read = partial(_read, data.name, Path(data.root), data.download, targets)
        asked = {"classes": True} if data.classes else {}  # a key that sets without classes do not know
        with readable(data.name):
            dataset = read(augment=data.augment, **asked, **data.options)
    else:
        dataset = _made(make, data)
    if data.source is not None:
        dataset = with_source(dataset, data.source)
    dataset = dataset.validated(data.validation)
    return dataset.limited(data.limit, data.test_limit).to(device)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """DataError for whatever the files of a set make its reader stumble over: they may be anybody's."""
    try:
        yield
    except (DataError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"the files of data={name} cannot be read ({type(error).__name__}: {reason})") from error


def fetch(name: str, root: Path | str) -> str:
    """Download what is missing under root, then check it; returns one sentence about what is there."""
    return _described(name, Path(root), download=True)


def check(name: str, root: Path | str) -> str:
    """Verify the files under root without network; one sentence, or DataError."""
    return _described(name, Path(root), download=False)


def require(name: str, root: Path | str) -> None:
    """Raise DataMissing if files of the set are not under root; their content is not checked."""
    source = _source(name)
    if source.require is not None:
        with _advised(name):
            source.require(Path(root))


def examine(data: Choice) -> None:
    """Raise DataError if a table is not as it was asked for, or no set can be: one that is still to be downloaded is
    not looked at."""
    source = _source(data.name)
    if source.check is not None:
        source.check(**data.options)
    if source.examined:
        try:
            _read(data.name, Path(data.root), download=False, **data.options)
        except DataMissing:
            if source.download is None or not data.download:
                raise


@contextmanager
def _advised(name: str) -> Iterator[None]:
    try:
        yield
    except DataMissing as missing:
        fetch = f"fetch it with `noderun data fetch {name}` or " if SETS[name].download else ""
        raise DataMissing(f"{name}: {missing}; {fetch}point data.root at a copy") from None


def _read(
    name: str,
    root: Path,
    download: bool,
    targets: tuple[type, ...] = TARGETS,
    augment: bool = False,
    **options: Any,
) -> Dataset:
    source = _source(name)
    read = partial(source.readers[source.target_for(targets) or source.target], root, augment, **options)
    if source.download is None and source.require is None:
        return read()
    if source.download is None or not download:
        with _advised(name):
            return read()
    try:
        return read()
    except DataMissing as missing:
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


def _described(name: str, root: Path, download: bool) -> str:
    where = f"in {root.absolute()}" if _source(name).require else "shipped with the package"
    try:
        dataset = _read(name, root, download)
    except Unbounded as reason:
        return f"{name}: complete, {where}; as it is, {reason}"
    check_examples(dataset)
    validation = "" if dataset.validation is None else f", {len(dataset.validation)} validation"
    return f"{name}: complete, {where}; {len(dataset.train)} training{validation} and {len(dataset.test)} test examples"
