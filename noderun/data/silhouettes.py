"""Caltech 101 Silhouettes (Marlin et al. 2010): outlines in black and white, with a validation split."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from noderun.data import files
from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import corrupt, read_verified
from noderun.data.images import Pixels
from noderun.data.targets import Levels

FILE = Path("Caltech101Silhouettes", "caltech101_silhouettes_28_split1.mat")
ADDRESS = "https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat"
MD5 = "4483e9c14b188fd09937f9ea6f9ea777"
MD5 = "4483e9c14b188fd09937f9ea6f9ea777"


def read(root: Path, augment: bool = False) -> Dataset:
    """4100, 2264 and 2307 images to train, validate and test."""
    from scipy.io import loadmat

    path = root / FILE
    content = loadmat(io.BytesIO(read_verified(path, MD5)))

    def images(split: str) -> Tensor:
        values = content.get(f"{split}_data")
        if values is None or values.ndim != 2 or values.shape[1] != 28 * 28 or values.max() > 1:
            raise corrupt(path, f"it has no rows of 784 zeros and ones named {split}_data")
        columns = torch.from_numpy(values).to(torch.uint8).reshape(-1, 1, 28, 28)  # MATLAB goes column by column
        return columns.transpose(2, 3).contiguous()

    train, validation, test = (Batch(images(split)) for split in ("train", "val", "test"))
    prepare = Pixels(white=1, padding=4 if augment else 0)
    return Dataset("caltech_silhouettes", (1, 28, 28), Levels(28 * 28, 2), train, test, prepare, validation)


def download(root: Path) -> None:
    files.download(ADDRESS, root / FILE, MD5)


def require(root: Path) -> None:
    files.require(root / FILE)
