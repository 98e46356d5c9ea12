"""Images as points of a density and in levels: dequantized, binarized, split and verified."""

import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from noderun.data import DataError, DataMissing, Density, Levels, batches, check, load, require, silhouettes
from noderun.data.freyfaces import TEST, TRAIN, VALID
from noderun.data.images import Dequantized, Pixels
from tests.data.test_densities import chosen

GRAY = ["digits", "mnist5k"]


@pytest.mark.parametrize("name", GRAY)
def test_dequantized_images_fill_their_levels(name):
    rows = load(chosen(name), "cpu")
    dataset = load(chosen(name, limit=300), "cpu", targets=(Density,))
    levels = dataset.target.transform.levels
    assert levels == {"digits": 17, "mnist5k": 256}[name] and dataset.target.dim == math.prod(dataset.shape)
    first, again, later = (next(batches(dataset, "train", 300, 0, epoch)) for epoch in (0, 0, 1))
    assert first.targets is None and torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs.sort(0).values, later.inputs.sort(0).values)
    (batch,) = batches(dataset, "test", len(rows.test))
    residue = batch.inputs * levels - rows.test.inputs
    assert residue.min() > -1e-4 and residue.max() < 1 + 1e-4  # float32
    assert abs(residue.mean() - 0.5) < 4 / math.sqrt(12 * residue.numel())
    parts = list(batches(dataset, "test", 64))
    assert torch.equal(torch.cat([part.inputs for part in parts]), batch.inputs)
    y, log_det = dataset.target.transform(batch.inputs)
    assert y.isfinite().all() and log_det.isfinite().all()
    torch.testing.assert_close(dataset.target.transform.inverse(y), batch.inputs, atol=1e-5, rtol=0)


def test_bits_per_dimension_of_a_uniform_density_are_those_of_its_levels():
    """p(x) = 1 on [0, 1]^D gives every image log2(levels) bits per dimension: nothing is left out of the units."""
    from noderun.models.flow import Flow
    from noderun.objectives.density import numbers

    dataset = load(chosen("digits"), "cpu", targets=(Density,))
    flow = Flow(dataset.shape)
    flow.transform = dataset.target.transform
    assert float(numbers(torch.zeros(3), flow)["bits_per_dim"].mean()) == pytest.approx(math.log2(17))


@pytest.mark.parametrize("name", GRAY)
def test_binarized_images_are_drawn_anew_in_training_and_fixed_in_testing(name):
    dataset = load(chosen(name), "cpu", targets=(Levels,))
    assert dataset.target.count == 2 and dataset.target.outputs == math.prod(dataset.shape)
    size = len(dataset.train)
    gray = dataset.train.inputs.float().mean() / dataset.prepare.white
    epochs = [next(batches(dataset, "train", size, 0, epoch)) for epoch in (0, 1)]
    for batch in epochs:
        assert set(batch.inputs.unique().tolist()) == {0.0, 1.0}
        assert abs(batch.inputs.mean() - gray) < 2 / math.sqrt(batch.inputs.numel())
    in_order = [batch.inputs[batch.index.argsort()] for batch in epochs]
    assert not torch.equal(*in_order)
    tests = [next(batches(dataset, "test", 50, 0, epoch)).inputs for epoch in (0, 1)]
    assert torch.equal(*tests)


@pytest.fixture
def silhouette_root(tmp_path, monkeypatch):
    path = tmp_path / silhouettes.FILE
    path.parent.mkdir()
    columns = np.zeros((28, 28), dtype=np.uint8)
    columns[3, 20] = 1  # row 3, column 20
    rows = np.tile(columns.ravel(order="F"), (6, 1))
    scipy.io.savemat(path, {"train_data": rows, "val_data": rows[:2], "test_data": rows[:3]})
    monkeypatch.setattr(silhouettes, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return tmp_path


def test_silhouettes_are_read_upright(silhouette_root):
    dataset = load(chosen("caltech_silhouettes", silhouette_root), "cpu")
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 6, "test": 3, "validation": 2}
    (batch,) = batches(dataset, "validation", 2)
    assert batch.inputs[0, 0, 3, 20] == 1 and batch.inputs.sum() == 2 and dataset.target == Levels(784, 2)
    (silhouette_root / silhouettes.FILE).write_bytes(b"x")
    with pytest.raises(DataError, match="is corrupt"):
        load(chosen("caltech_silhouettes", silhouette_root), "cpu")


@pytest.mark.parametrize("form", ["frey_rawface.mat", "freyfaces.npz"])
def test_frey_faces_are_split_by_a_fixed_seed(form, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(1965, 28, 20), dtype=np.uint8)
    (tmp_path / "Freyfaces").mkdir()
    path = tmp_path / "Freyfaces" / form
    if form.endswith(".mat"):
        scipy.io.savemat(path, {"ff": images.reshape(1965, -1).T})
    else:
        np.savez(path, images=images)
    dataset = load(chosen("freyfaces", tmp_path), "cpu")
    assert [len(dataset.splits[split]) for split in ("train", "validation", "test")] == [TRAIN, VALID, TEST]
    everything = torch.cat([rows.inputs for rows in dataset.splits.values()])[:, 0]
    assert len(everything.flatten(1).unique(dim=0)) == 1965 and (everything.flatten(1).sum() == images.sum())
    assert (images == dataset.test.inputs[7, 0].numpy()).all((1, 2)).sum() == 1
    assert dataset.target == Levels(560, 256) and isinstance(dataset.prepare, Pixels)
    as_density = load(chosen("freyfaces", tmp_path), "cpu", targets=(Density,))
    assert isinstance(as_density.prepare, Dequantized) and as_density.validation is not None
    path.write_bytes(b"x")
    with pytest.raises(DataError, match="is corrupt"):
        check("freyfaces", tmp_path)


@pytest.mark.parametrize("name", ["caltech_silhouettes", "freyfaces"])
def test_the_real_files_are_as_they_are_described(name):
    if "NODERUN_DATA" not in os.environ:
        pytest.skip("the files are under the folder that NODERUN_DATA names; it is not set")
    counts = {
        "caltech_silhouettes": "4100 training, 2264 validation and 2307",
        "freyfaces": "1565 training, 200 validation and 200",
    }
    assert counts[name] in check(name, Path(os.environ["NODERUN_DATA"]))


def test_what_is_missing_is_told_before_training(tmp_path):
    for name in ("caltech_silhouettes", "freyfaces"):
        with pytest.raises(DataMissing, match=rf"^{name}: no file .*noderun data fetch {name}"):
            require(name, tmp_path)
