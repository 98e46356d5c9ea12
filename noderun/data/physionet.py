"""PhysioNet's challenge of 2012: the first 48 hours of stays in intensive care, and who died in hospital."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noderun.data.dataset import Dataset
from noderun.data.files import DataError, DataMissing, check_unpacked, read_bytes
from noderun.data.mechanics import of_system
from noderun.data.points import require_none
from noderun.data.series import Records, packed_rows, series_dataset
from noderun.data.system import System

FOLDER, HOURS = "PhysioNet2012/raw", 48.0
WHERE = "physionet.org/content/challenge-2012/1.0.0 has it"
CHANNELS = (
    *("Age", "Gender", "Height", "ICUType", "Weight", "ALP", "ALT", "AST", "Albumin", "BUN", "Bilirubin"),
    *("Cholesterol", "Creatinine", "DiasABP", "FiO2", "GCS", "Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "MAP"),
    *("MechVent", "Mg", "NIDiasABP", "NIMAP", "NISysABP", "Na", "PaCO2", "PaO2", "Platelets", "RespRate", "SaO2"),
    *("SysABP", "Temp", "TroponinI", "TroponinT", "Urine", "WBC", "pH"),
)
OF_PATIENT = 5  # the first channels describe the patient; there -1 says that it is unknown


def require(root: Path) -> None:
    for file in ("set-a.tar.gz", "Outcomes-a.txt", "set-b.tar.gz", "Outcomes-b.txt"):
        if not (root / FOLDER / file).exists():
            raise DataMissing(f"no file {root.absolute() / FOLDER / file}; {WHERE}")


def physionet2012(
    root: Path,
    augment: bool = False,
    *,
    quantize: float = 0.1,
    task: str | None = None,
    **asked: Any,
) -> Dataset:
    """Set a trains and set b tests, 4000 stays each, 41 channels; classify: death in hospital.

    Times are hours in units of the 48, rounded to ``quantize`` hours; values that fall together are averaged.
    """
    require_none("physionet2012", augment)
    require(root)
    train, test = (read_set(root / FOLDER, letter, quantize) for letter in "ab")
    dataset = series_dataset("physionet2012", train, test, task or "classify", classes=2, **asked)
    return of_system(dataset, System(extent=extent(train, test)))


def read_set(folder: Path, letter: str, quantize: float) -> Records:
    """The archive of one set, read in memory; nothing is unpacked or kept on disk."""
    import pandas

    outcomes = pandas.read_csv(io.BytesIO(read_bytes(folder / f"Outcomes-{letter}.txt")))
    stays, order = torch.tensor(outcomes["RecordID"].to_numpy()).sort()
    labels = torch.tensor(outcomes["In-hospital_death"].to_numpy())[order].long()
    lines = io.BytesIO(joined(folder / f"set-{letter}.tar.gz"))
    kinds = {"minute": "category", "channel": "category", "value": "float64"}
    table = pandas.read_csv(lines, header=None, names=list(kinds), dtype=kinds)
    names = list(table["channel"].cat.categories)
    number = torch.tensor([CHANNELS.index(name) if name in CHANNELS else -1 for name in names])
    clock = torch.tensor([60 * int(time[:2]) + int(time[3:]) for time in table["minute"].cat.categories])
    code = torch.tensor(table["channel"].cat.codes.to_numpy()).long()
    minute = clock[torch.tensor(table["minute"].cat.codes.to_numpy()).long()].double()
    value = torch.tensor(table["value"].to_numpy())
    heads = code == names.index("RecordID")
    row = torch.searchsorted(stays, value[heads].long())[heads.cumsum(0) - 1]
    channel = number[code]
    kept = (channel >= 0) & value.isfinite() & ((channel >= OF_PATIENT) | (value >= 0))
    row, channel, value = row[kept], channel[kept], value[kept]
    step = (minute[kept] / (60 * quantize)).round().long() if quantize else minute[kept].long()
    unit = (quantize or 1 / 60) / HOURS
    row, step, channel, value = averaged(row, step, channel, value)
    unmeasured = torch.ones(len(stays), dtype=torch.bool).index_fill(0, row, False)
    if unmeasured.any():
        stay = int(stays[unmeasured][0])
        raise DataError(f"PhysioNet 2012, set {letter}: stay {stay} has an outcome and no measurement")
    series = packed_rows(row, step.double() * unit, channel, value, (len(stays), len(CHANNELS)))
    return Records(*series, labels=labels)


def extent(*splits: Records) -> tuple[float, ...]:
    """The largest less the smallest value of each channel; 1 of a channel that is constant."""
    high = torch.stack([r.values.masked_fill(~r.mask, -torch.inf).amax((0, 1)) for r in splits]).amax(0)
    low = torch.stack([r.values.masked_fill(~r.mask, torch.inf).amin((0, 1)) for r in splits]).amin(0)
    return tuple(torch.where(high > low, high - low, 1.0).tolist())


def averaged(row: Tensor, step: Tensor, channel: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One line for each (row, step, channel), in order, with the mean of its values."""
    steps, channels = int(step.max()) + 1, len(CHANNELS)
    key, line = torch.unique((row * steps + step) * channels + channel, return_inverse=True)
    means = torch.bincount(line, value) / torch.bincount(line)
    return key // (steps * channels), key // channels % steps, key % channels, means


def joined(path: Path) -> bytes:
    """The lines of all files of the archive, without their headings."""
    parts = []
    try:
        check_unpacked(path)
        with tarfile.open(fileobj=io.BytesIO(read_bytes(path))) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name.endswith(".txt"):
                    parts.append(file.read().partition(b"\n")[2])
    except FileNotFoundError:
        raise DataMissing(f"no file {path.absolute()}; {WHERE}") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is corrupt ({error}); {WHERE}") from error
    return b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts)
