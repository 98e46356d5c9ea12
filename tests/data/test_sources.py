"""What stands on disk is verified; what is wrong is one sentence with the file and the remedy."""

import gzip
import hashlib
import os
import pickle
import shutil
import stat
import struct
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from noderun.data import (
    SETS,
    Batch,
    DataError,
    DataMissing,
    Dataset,
    Density,
    batches,
    check,
    fetch,
    idx,
    load,
    require,
    sources,
)
from noderun.data.files import download
from noderun.data.mnist5k import PER_CLASS, select
from noderun.data.vision import CLASSES, published

SHIPPED = ["digits", "mnist5k"]
PUBLISHED = [name for name, source in SETS.items() if source.download is not None]
BY_TORCHVISION = list(CLASSES)


def chosen(name, root="nowhere", **others):
    values = dict(
        name=name,
        root=str(root),
        download=False,
        limit=None,
        test_limit=None,
        validation=0.0,
        augment=False,
        source=None,
        classes=False,
        options={},
    )
    return SimpleNamespace(**values | others)


def as_idx(values):
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def mnist_root(tmp_path, monkeypatch):
    """A small MNIST under tmp_path, as its .gz files alone, with their sums taken for the published ones."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    generator, sums = np.random.default_rng(0), {}
    for prefix, count in (("train", 30), ("t10k", 10)):
        images = generator.integers(256, size=(count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for file, values in ((f"{prefix}-images-idx3-ubyte.gz", images), (f"{prefix}-labels-idx1-ubyte.gz", labels)):
            (folder / file).write_bytes(gzip.compress(as_idx(values)))
            sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    monkeypatch.setitem(idx.MD5, "mnist", sums)
    return tmp_path


@pytest.fixture
def read_only(mnist_root):
    folders = [mnist_root, mnist_root / "MNIST", mnist_root / "MNIST" / "raw"]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield mnist_root
    for folder in folders:
        folder.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_load_without_files_or_network(name, augment):
    dataset = load(chosen(name, augment=augment, limit=100, test_limit=50), "cpu")
    batch = next(batches(dataset, "train", 32))
    images, labels = batch.inputs, batch.targets
    assert images.shape == (32, *dataset.shape) and images.dtype == torch.float32
    assert images.min() == 0 and images.max() == 1
    assert labels.dtype == torch.int64 and labels.max() < dataset.target.count
    assert dataset.train.inputs.dtype == torch.uint8 and len(dataset.train) == 100
    assert len(dataset.test) == 50 and len(dataset.test.targets.unique()) == dataset.target.count
    assert "complete" in check(name, "nowhere") and fetch(name, "nowhere") == check(name, "nowhere")


def test_mnist5k_is_the_stated_selection_of_mnist():
    if "NODERUN_DATA" not in os.environ:
        pytest.skip("the raw MNIST to compare with is under the folder that NODERUN_DATA names; it is not set")
    dataset = load(chosen("mnist5k"), "cpu")
    for split, shipped in (("train", dataset.train), ("test", dataset.test)):
        assert torch.bincount(shipped.targets).tolist() == [PER_CLASS[split]] * 10
        expected = select(Path(os.environ["NODERUN_DATA"]), split)
        assert torch.equal(expected.inputs, shipped.inputs) and torch.equal(expected.targets, shipped.targets)


def test_packed_files_in_a_read_only_root_are_enough_and_nothing_is_written(read_only):
    before = sorted(read_only.rglob("*"))
    dataset = load(chosen("mnist", read_only, download=True), "cpu")
    assert sorted(read_only.rglob("*")) == before
    raw = gzip.decompress((read_only / "MNIST/raw/train-images-idx3-ubyte.gz").read_bytes())
    assert dataset.train.inputs.numpy().tobytes() == raw[16:]
    assert dataset.train.targets.tolist() == [i % 10 for i in range(30)]
    assert len(dataset.test) == 10


def test_unpacked_files_are_enough_and_checked_by_their_length(mnist_root):
    packed = load(chosen("mnist", mnist_root), "cpu")
    for file in (mnist_root / "MNIST/raw").glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert torch.equal(load(chosen("mnist", mnist_root), "cpu").train.inputs, packed.train.inputs)
    truncated = mnist_root / "MNIST/raw/train-images-idx3-ubyte"
    truncated.write_bytes(truncated.read_bytes()[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is corrupt"):
        check("mnist", mnist_root)


def test_a_flipped_byte_names_the_file_and_the_remedy(mnist_root):
    file = mnist_root / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is corrupt .* delete it and fetch"):
        load(chosen("mnist", mnist_root, download=True), "cpu")


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files_name_the_folder_and_the_command(name, tmp_path):
    with pytest.raises(DataMissing, match=f"{tmp_path}.*noderun data fetch {name}.*data.root"):
        load(chosen(name, tmp_path), "cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_failed_download_is_one_sentence(name, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    for source in map(published, BY_TORCHVISION):
        monkeypatch.setattr(source, "download", no_network)
    with pytest.raises(DataError, match=r"could not be downloaded.*Name or service not known.*data\.root") as caught:
        fetch(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_downloaded_and_read(mnist_root, tmp_path, monkeypatch):
    full, empty = mnist_root / "MNIST", tmp_path / "elsewhere"
    monkeypatch.setitem(
        sources.SETS,
        "mnist",
        sources.Source(idx.mnist, "image", download=lambda root: (root.mkdir(), full.rename(root / "MNIST"))),
    )
    assert "30 training and 10 test examples" in fetch("mnist", empty)


def test_torchvision_of_another_torch_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataError, match="install a matching pair"):
        published("mnist")


@pytest.fixture
def cifar_root(tmp_path, monkeypatch):
    """A small CIFAR-10 in its published layout, as the archive alone."""
    source = published("cifar10")
    folder = tmp_path / "unpacked" / source.base_folder
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(256, size=(6, 4, 3072), dtype=np.uint8)
    names = [file for file, _ in [*source.train_list, *source.test_list]]
    parts = [{"data": part, "labels": [1, 2, 3, 4]} for part in rows]
    contents = dict(zip(names, map(pickle.dumps, parts), strict=True))
    contents["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    sums = {file: hashlib.md5(content).hexdigest() for file, content in contents.items()}
    monkeypatch.setattr(source, "train_list", [[file, sums[file]] for file, _ in source.train_list])
    monkeypatch.setattr(source, "test_list", [[file, sums[file]] for file, _ in source.test_list])
    monkeypatch.setattr(source, "meta", source.meta | {"md5": sums["batches.meta"]})
    with tarfile.open(tmp_path / source.filename, "w:gz") as archive:
        archive.add(folder, source.base_folder)
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5((tmp_path / source.filename).read_bytes()).hexdigest())
    return tmp_path, rows


def test_cifar10_is_read_from_its_archive_or_its_folder(cifar_root):
    root, rows = cifar_root
    packed, unpacked = (load(chosen("cifar10", folder, augment=True), "cpu") for folder in (root, root / "unpacked"))
    assert packed.train.inputs.numpy().tobytes() == rows[:5].tobytes() and packed.shape == (3, 32, 32)
    assert torch.equal(packed.test.inputs, unpacked.test.inputs) and packed.train.targets.tolist() == [1, 2, 3, 4] * 5
    assert packed.prepare.flip and packed.prepare.padding == 4


def test_a_corrupt_cifar10_names_the_file(cifar_root):
    root = cifar_root[0] / "unpacked"
    (root / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"x")
    with pytest.raises(DataError, match="data_batch_3 is corrupt"):
        check("cifar10", root)
    (cifar_root[0] / "cifar-10-python.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is corrupt"):
        check("cifar10", cifar_root[0])


def test_a_users_own_set_gets_its_yaml_keys_and_must_be_a_dataset():
    def mine(points, noise=0.0):
        rows = Batch(torch.full((points, 2), noise))
        return Dataset("mine", (2,), Density(2), rows, rows)

    dataset = load(chosen("mine", options={"points": 9, "noise": 0.5}, limit=4), "cpu", make=mine)
    assert len(dataset.train) == 4 and len(dataset.test) == 9 and dataset.train.inputs[0, 0] == 0.5
    with pytest.raises(DataError, match="expected a noderun.data.Dataset, got list"):
        load(chosen("mine"), "cpu", make=list)


def test_an_unknown_set_gets_the_nearest_name():
    with pytest.raises(DataError, match="did you mean 'mnist5k'"):
        check("mnist5", "nowhere")


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files_are_told_without_reading_any(name, tmp_path):
    with pytest.raises(
        DataMissing, match=rf"^{name}: no .* in {tmp_path}.*; fetch it with `noderun data fetch {name}`"
    ):
        require(name, tmp_path)
    for shipped in SHIPPED:
        require(shipped, tmp_path)


def test_files_that_are_there_are_not_missed(mnist_root, tmp_path_factory):
    require("mnist", mnist_root)
    (unpacked,) = [path for path in (mnist_root / "MNIST/raw").glob("train-images*")]
    unpacked.rename(unpacked.with_suffix(""))
    require("mnist", mnist_root)
    unpacked.with_suffix("").unlink()
    with pytest.raises(DataMissing, match="no file train-images-idx3-ubyte.gz"):
        require("mnist", mnist_root)
    source = published("cifar10")
    for name in (source.base_folder, source.filename):
        root = tmp_path_factory.mktemp("cifar")
        (root / name).mkdir()
        require("cifar10", root)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_failed_download_leaves_no_folder(name, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise RuntimeError("no network")

    def unreachable(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refused)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    kept = tmp_path / "kept"
    kept.mkdir()
    for root in (tmp_path / "new" / "data", kept):
        with pytest.raises(DataError, match="could not be downloaded"):
            fetch(name, root)
    assert list(tmp_path.iterdir()) == [kept] and list(kept.iterdir()) == []


def test_a_download_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    published = tmp_path / "published.txt"
    published.write_bytes(b"1 2 3")
    download(published.as_uri(), tmp_path / "root" / "here.txt")
    assert (tmp_path / "root" / "here.txt").read_bytes() == b"1 2 3"

    def cut(source, file):
        file.write(b"1")
        raise ConnectionResetError("cut")

    monkeypatch.setattr(shutil, "copyfileobj", cut)
    with pytest.raises(DataError, match="could not be downloaded to .*cut"):
        download(published.as_uri(), tmp_path / "cut" / "here.txt")
    assert not (tmp_path / "cut").exists()
