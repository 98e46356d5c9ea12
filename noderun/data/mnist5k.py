"""Real MNIST small enough to ship: the first 400 of each class of the training set, the first 100 of the test set.

``build(Path("ROOT"))`` writes mnist5k.npz again from ROOT/MNIST/raw; mnist5k.md tells source and terms.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import read_verified
from noderun.data.idx import read_split
from noderun.data.images import Pixels, labeled_images

FILE = Path(__file__).with_name("mnist5k.npz")
MD5 = "16c2c3717944b66ec1b0a3f7522590b3"
PER_CLASS = {"train": 400, "test": 100}


def mnist5k(root: Path, augment: bool = False) -> Dataset:
    """Needs nothing under root: the file is part of the package."""
    arrays = np.load(io.BytesIO(read_verified(FILE, MD5)))
    train, test = (
        Batch(torch.from_numpy(arrays[f"{split}_images"]), torch.from_numpy(arrays[f"{split}_labels"]).long())
        for split in PER_CLASS
    )
    return labeled_images("mnist5k", train, test, Pixels(padding=4 if augment else 0))


def first_of_each_class(labels: Tensor, count: int) -> Tensor:
    """Indices, in the set's own order, of the first ``count`` examples of every class."""
    chosen = [torch.nonzero(labels == label).flatten()[:count] for label in labels.unique()]
    return torch.cat(chosen).sort().values


def select(root: Path, split: str) -> Batch:
    rows = read_split("mnist", root, split)
    assert rows.targets is not None
    return rows.rows(first_of_each_class(rows.targets, PER_CLASS[split]))


def build(root: Path, file: Path = FILE) -> None:
    """Write the selection; a change of numpy's compression changes the file's MD5, not its arrays."""
    arrays: dict[str, Any] = {}
    for split in PER_CLASS:
        chosen = select(root, split)
        assert chosen.targets is not None
        arrays |= {f"{split}_images": chosen.inputs.numpy(), f"{split}_labels": chosen.targets.byte().numpy()}
    np.savez_compressed(file, **arrays)
