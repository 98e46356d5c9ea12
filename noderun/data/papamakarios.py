"""POWER, GAS, HEPMASS, MINIBOONE and BSDS300 as Papamakarios et al. (2017) prepared them, from the files of their code.

A published NLL is in nats of the standardized table, so that the numbers of these sets are, too. They are taken as they
were published, without a look at their columns: POWER's time of day, for one, has 1440 values and no noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noderun.data import files
from noderun.data.batch import Batch
from noderun.data.columns import Array
from noderun.data.dataset import Dataset
from noderun.data.files import DataError, DataMissing
from noderun.data.table_files import numeric, read_csv, read_tables
from noderun.data.tables import float32
from noderun.data.targets import Density

Splits = tuple[Array, Array, Array]  # train, validation, test
HOLD_OUT = 0.1


def power(folder: Path) -> Splits:
    """Dequantized household power consumption; NumPy's old generator makes the published order and noise."""
    generator = np.random.RandomState(42)
    table = np.array(one(folder / "data.npy"))
    if table.shape[1] != 8:
        raise DataError(f"{folder / 'data.npy'} has {table.shape[1]} columns; the published file has 8")
    generator.shuffle(table)
    table = np.delete(table, [1, 3], axis=1)
    voltage, active, metering = (generator.rand(len(table), count) for count in (1, 1, 3))
    noise = np.hstack([0.001 * active, 0.01 * voltage, metering, np.zeros((len(table), 1))])
    return standardized(*last_tenths(table + noise))


def gas(folder: Path) -> Splits:
    """Readings of gas sensors, without columns that correlate by more than 0.98 with another."""
    path = folder / "ethylene_CO.csv"
    if not path.exists():
        raise DataMissing(
            f"no file {path.name} in {folder.absolute()}, and a pickle may run code, so that the published one is not "
            "read: pandas.read_pickle('ethylene_CO.pickle').to_csv('ethylene_CO.csv', index=False) makes that file"
        )
    (found,) = read_tables(path).values()
    kept = [name for name in found.columns if name not in ("Meth", "Eth", "Time")]
    table = found.chosen(kept, path).values
    while True:
        related = (np.corrcoef(table.T) > 0.98).sum(0) > 1
        if not related.any():
            break
        table = np.delete(table, related.argmax(), axis=1)
    return last_tenths((table - table.mean(0)) / table.std(0, ddof=1))


def hepmass(folder: Path) -> Splits:
    """Signal of particle collisions, without columns whose smallest value comes up more than five times."""
    train = collisions(folder / "1000_train.csv")
    test = collisions(folder / "1000_test.csv", columns=train.shape[1])  # the published file has one more
    train, test = (table[table[:, 0] == 1, 1:] for table in (train, test))
    train, test = ((table - train.mean(0)) / train.std(0, ddof=1) for table in (train, test))
    kept = (train == train.min(0)).sum(0) <= 5
    train, test = train[:, kept], test[:, kept]
    count = len(train) - int(HOLD_OUT * len(train))
    return train[:count], train[count:], test


def collisions(path: Path, columns: int | None = None) -> Array:
    """The first columns, or all."""
    files.require(path)
    ((_, values, names),) = read_csv(path)
    return numeric(values[:, :columns], names[:columns], path).values


def miniboone(folder: Path) -> Splits:
    """Neutrinos; the file has been cleaned already."""
    return standardized(*last_tenths(one(folder / "data.npy")))


def bsds300(folder: Path) -> Splits:
    """8x8 patches of natural images without their mean and last pixel; standardized by nobody."""
    path = folder / "BSDS300.hdf5"
    files.require(path)
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path} is read by h5py, which is not here: pip install h5py") from error
    with h5py.File(path) as file:
        train, validation, test = (np.asarray(file[split], np.float64) for split in ("train", "validation", "test"))
    return train, validation, test


def one(path: Path) -> Array:
    """The one table in a file."""
    return next(iter(read_tables(path).values())).values


def last_tenths(table: Array) -> Splits:
    """The last tenth to test on, then the last tenth of the others to validate on."""
    test = len(table) - int(HOLD_OUT * len(table))
    validation = test - int(HOLD_OUT * test)
    return table[:validation], table[validation:test], table[test:]


def standardized(train: Array, validation: Array, test: Array) -> Splits:
    """By the mean and standard deviation of train and validation."""
    seen = np.concatenate([train, validation])
    mean, scale = seen.mean(0), seen.std(0)
    return (train - mean) / scale, (validation - mean) / scale, (test - mean) / scale


@dataclass(frozen=True)
class Benchmark:
    """A set of ``dim`` columns that ``splits(root / folder)`` prepares."""

    name: str
    folder: str
    dim: int
    splits: Callable[[Path], Splits]

    def read(self, root: Path, augment: bool = False) -> Dataset:
        train, validation, test = (Batch(float32(rows)) for rows in self.splits(root / self.folder))
        if (found := train.inputs.shape[1]) != self.dim:
            where = (root / self.folder).absolute()
            raise DataError(f"{self.name} has {found} columns in {where}, published are {self.dim}")
        return Dataset(self.name, (self.dim,), Density(self.dim), train, test, validation=validation)

    def require(self, root: Path) -> None:
        if not (root / self.folder).is_dir():
            raise DataMissing(f"no folder {self.folder} in {root.absolute()}")


BENCHMARKS = {
    each.name: each
    for each in (
        Benchmark("power", "power", 6, power),
        Benchmark("gas", "gas", 8, gas),
        Benchmark("hepmass", "hepmass", 21, hepmass),
        Benchmark("miniboone", "miniboone", 43, miniboone),
        Benchmark("bsds300", "BSDS300", 63, bsds300),
    )
}
