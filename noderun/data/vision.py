"""Downloads and CIFAR-10's files, by torchvision: the one module that imports it, inside functions."""

from __future__ import annotations

import contextlib
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import torch

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataError, DataMissing, read_verified
from noderun.data.images import Pixels, labeled_images
from noderun.record.folders import tried

CIFAR_FOLDER, CIFAR_ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}


def published(name: str) -> Any:
    """torchvision's class for the set; its import takes seconds and fails where it was not built for this torch."""
    try:
        import torchvision.datasets
    except (ImportError, RuntimeError) as error:
        raise DataError(
            f"torchvision does not work with torch {torch.__version__} ({str(error).splitlines()[0]}); "
            "install a matching pair from one index: pip install --upgrade torch torchvision"
        ) from error
    return getattr(torchvision.datasets, CLASSES[name])


def download(name: str, root: Path) -> None:
    """Put the published files under root, as torchvision lays them out; its progress goes to stderr."""
    source = published(name)
    try:
        with tried(root), contextlib.redirect_stdout(sys.stderr):
            source(root, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(f"{name} could not be downloaded to {root.absolute()} ({reason})") from error


def require_cifar10(root: Path) -> None:
    """Raise DataMissing if neither the folder nor the archive exists."""
    if not ((root / CIFAR_FOLDER).exists() or (root / CIFAR_ARCHIVE).exists()):
        raise DataMissing(f"no folder {CIFAR_FOLDER} and no {CIFAR_ARCHIVE} in {root.absolute()}")


def cifar10(root: Path, augment: bool = False) -> Dataset:
    """From root/cifar-10-batches-py, or from the archive beside it without unpacking it there."""
    prepare = Pixels(padding=4 if augment else 0, flip=augment)
    source = published("cifar10")
    archive = root / CIFAR_ARCHIVE
    if (root / CIFAR_FOLDER).exists() or not archive.exists():
        return labeled_images("cifar10", *_splits(source, root), prepare)
    read_verified(archive, source.tgz_md5)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
        return labeled_images("cifar10", *_splits(source, Path(folder)), prepare)


def _splits(source: Any, root: Path) -> tuple[Batch, Batch]:
    try:
        parts = [source(root, train=train) for train in (True, False)]
    except RuntimeError:  # "not found or corrupted": say which, and which file
        for file, md5 in [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]:
            read_verified(root / source.base_folder / file, md5)
        raise
    train, test = (
        Batch(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in parts
    )
    return train, test
