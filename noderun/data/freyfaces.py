"""Frey faces (Roweis): 1965 images of one face, 28x20 in 256 levels, with a validation split.

Both forms are read: the published frey_rawface.mat, and freyfaces.npz with ``images`` uint8 [1965, 28, 20].
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noderun.data import files
from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataMissing, corrupt, read_bytes
from noderun.data.images import Pixels
from noderun.data.targets import Levels

FOLDER, PUBLISHED, PACKED = "Freyfaces", "frey_rawface.mat", "freyfaces.npz"
ADDRESS = f"https://cs.nyu.edu/~roweis/data/{PUBLISHED}"
TRAIN, VALID, TEST = 1565, 200, 200  # of van den Berg et al. 2018, who drew them anew in every run
SHUFFLE = 0  # the seed that fixes which are which


def read(root: Path, augment: bool = False) -> Dataset:
    images = faces(root / FOLDER)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SHUFFLE))
    train, validation, test = (Batch(images[rows]) for rows in order.split([TRAIN, VALID, TEST]))
    prepare = Pixels(padding=2 if augment else 0)
    return Dataset("freyfaces", (1, 28, 20), Levels(28 * 20, 256), train, test, prepare, validation)


def faces(folder: Path) -> Tensor:
    """uint8 [1965, 1, 28, 20] from the packed file or else the published one."""
    path = folder / PACKED if (folder / PACKED).exists() else folder / PUBLISHED
    content = read_bytes(path)
    try:
        images = _unpacked(content, path.suffix)
    except Exception as error:  # whatever the damage makes the readers stumble over
        raise corrupt(path, files.first_line(error)) from error
    if images.shape != (TRAIN + VALID + TEST, 28, 20) or images.dtype != np.uint8:
        raise corrupt(path, f"its images are {images.dtype} {images.shape}, not uint8 (1965, 28, 20)")
    return torch.from_numpy(images).unsqueeze(1)


def _unpacked(content: bytes, suffix: str) -> np.ndarray:
    if suffix == ".npz":
        return np.load(io.BytesIO(content))["images"]
    from scipy.io import loadmat

    return np.ascontiguousarray(loadmat(io.BytesIO(content))["ff"].T.reshape(-1, 28, 20))  # ff holds them as columns


def download(root: Path) -> None:
    files.download(ADDRESS, root / FOLDER / PUBLISHED)


def require(root: Path) -> None:
    """Raise DataMissing if neither file exists."""
    folder = root / FOLDER
    if not ((folder / PACKED).exists() or (folder / PUBLISHED).exists()):
        raise DataMissing(f"no file {PUBLISHED} in {folder.absolute()}")
