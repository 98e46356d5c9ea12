"""The five tables of Papamakarios et al. (2017): small files of their form become what their code made of them."""

import numpy as np
import pytest
import torch

from noderun.data import DataError, DataMissing, load, require
from noderun.data.papamakarios import BENCHMARKS
from tests.data.test_densities import chosen

ROWS = np.random.default_rng(0).normal(size=(1000, 60))


def write_csv(path, names, values):
    path.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in values)]) + "\n")


def write(name, folder):
    folder.mkdir()
    if name == "power":
        np.save(folder / "data.npy", ROWS[:, :8])
    elif name == "miniboone":
        np.save(folder / "data.npy", ROWS[:, :43] * 5 + 2)
    elif name == "gas":
        values = np.c_[ROWS[:, :9], ROWS[:, 8] + 1e-3 * ROWS[:, 9], ROWS[:, 10:11]]
        write_csv(folder / "ethylene_CO.csv", ["Meth", "Eth", "Time", *map(str, range(8))], values)
    else:
        discrete = ROWS[:, 21:23].round()
        for split, more in (("train", 0), ("test", 1)):
            values = np.c_[np.arange(1000) % 2, ROWS[:, :21], np.abs(discrete) - 9, np.full((1000, more), np.nan)]
            write_csv(folder / f"1000_{split}.csv", ["label", *map(str, range(values.shape[1] - 1))], values)


@pytest.mark.parametrize("name", ["power", "miniboone", "hepmass"])
def test_the_published_form_is_read_and_standardized(name, tmp_path):
    write(name, tmp_path / name)
    dataset = load(chosen(name, tmp_path), "cpu")
    counts = [len(dataset.splits[split]) for split in ("train", "validation", "test")]
    assert counts == ([450, 50, 500] if name == "hepmass" else [810, 90, 100])
    seen = torch.cat([dataset.train.inputs, dataset.validation.inputs])
    assert dataset.shape == (BENCHMARKS[name].dim,) and dataset.target.transform is None
    assert seen.mean(0).abs().max() < 1e-5 and (seen.std(0) - 1).abs().max() < 2e-3


def test_power_has_the_published_order_and_noise(tmp_path):
    """Written out row by row as their code has it: the shuffle of seed 42 first, then voltage, active power, meters."""
    write("power", tmp_path / "power")
    generator = np.random.RandomState(42)
    table = ROWS[:, :8].copy()
    generator.shuffle(table)
    expected = table[:, [0, 2, 4, 5, 6, 7]]
    expected[:, 1] += 0.01 * generator.rand(1000, 1)[:, 0]
    expected[:, 0] += 0.001 * generator.rand(1000, 1)[:, 0]
    expected[:, 2:5] += generator.rand(1000, 3)
    mean, scale = expected[:900].mean(0), expected[:900].std(0)
    dataset = load(chosen("power", tmp_path), "cpu")
    np.testing.assert_allclose(dataset.test.inputs, (expected[900:] - mean) / scale, rtol=1e-4, atol=1e-5)


def test_gas_drops_what_correlates_and_says_how_many_columns_there_should_be(tmp_path):
    write("gas", tmp_path / "gas")
    with pytest.raises(DataError, match="gas has 7 columns in .*, published are 8"):
        load(chosen("gas", tmp_path), "cpu")


def test_what_is_missing_says_what_was_expected(tmp_path):
    sentences = {
        "power": "no file data.npy in",
        "gas": r"no file ethylene_CO\.csv in .*a pickle may run code",
        "hepmass": r"no file 1000_train\.csv in",
        "miniboone": "no file data.npy in",
        "bsds300": r"no file BSDS300\.hdf5 in",
    }
    for name, sentence in sentences.items():
        with pytest.raises(DataMissing, match="no folder"):
            require(name, tmp_path)
        (tmp_path / BENCHMARKS[name].folder).mkdir()
        with pytest.raises(DataMissing, match=sentence):
            load(chosen(name, tmp_path), "cpu")
