"""MNIST and Fashion-MNIST from their published idx files, packed (.gz) or not; nothing is ever written.

Format: http://yann.lecun.com/exdb/mnist; sums of the packed files as torchvision lists them.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from noderun.data import files
from noderun.data.batch import Batch
from noderun.data.dataset import Dataset
from noderun.data.files import DataMissing, corrupt, read_bytes, read_verified
from noderun.data.images import Pixels, labeled_images

FOLDERS = {"mnist": Path("MNIST", "raw"), "fashion_mnist": Path("FashionMNIST", "raw")}
ADDRESSES = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion_mnist": "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
}
PREFIXES = {"train": "train", "test": "t10k"}
MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}


def mnist(root: Path, augment: bool = False) -> Dataset:
    prepare = Pixels(padding=4 if augment else 0)
    return labeled_images("mnist", *_splits("mnist", root), prepare)


def fashion_mnist(root: Path, augment: bool = False) -> Dataset:
    prepare = Pixels(padding=4 if augment else 0, flip=augment)
    return labeled_images("fashion_mnist", *_splits("fashion_mnist", root), prepare)


def _splits(name: str, root: Path) -> tuple[Batch, Batch]:
    train, test = (read_split(name, root, split) for split in PREFIXES)
    return train, test


def read_split(name: str, root: Path, split: str) -> Batch:
    """uint8 images [N, 1, 28, 28] and int64 labels [N] of "train" or "test"."""
    prefix, folder = PREFIXES[split], root / FOLDERS[name]
    images = _read(name, folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = _read(name, folder / f"{prefix}-labels-idx1-ubyte.gz")
    if len(images) != len(labels):
        raise corrupt(folder, f"{len(images)} {split} images beside {len(labels)} labels")
    return Batch(images.unsqueeze(1), labels.long())


def download(name: str, root: Path) -> None:
    """Put the published files under root that are not there."""
    for file, md5 in MD5[name].items():
        path = root / FOLDERS[name] / file
        if not path.exists():
            files.download(ADDRESSES[name] + file, path, md5)


def require(name: str, root: Path) -> None:
    """Raise DataMissing if one of the files exists neither packed nor unpacked."""
    for file in MD5[name]:
        packed = root / FOLDERS[name] / file
        if not (packed.exists() or packed.with_suffix("").exists()):
            raise DataMissing(f"no file {packed.name} in {packed.parent.absolute()}")


def _read(name: str, packed: Path) -> Tensor:
    """The packed file first: only its MD5 is published. An unpacked one is checked by its header and length."""
    try:
        return parse(gzip.decompress(read_verified(packed, MD5[name][packed.name])), packed)
    except DataMissing:
        unpacked = packed.with_suffix("")
        if not unpacked.exists():
            raise
        return parse(read_bytes(unpacked), unpacked)


def parse(content: bytes, path: Path) -> Tensor:
    """The uint8 tensor in an idx file: two zero bytes, type 8, number of dimensions, big-endian sizes, values."""
    dimensions = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if dimensions == 0 or len(content) < start:
        raise corrupt(path, "it does not begin as an idx file of bytes")
    sizes = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(sizes):
        raise corrupt(path, f"{math.prod(sizes)} values announced, {len(content) - start} found")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(sizes)
