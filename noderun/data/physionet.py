"""PhysioNet's challenge of 2012: the first 48 hours of stays in intensive care, and who died in hospital."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import torch

from noderun.data.dataset import Dataset
from noderun.data.files import DataError, DataMissing, read_bytes
from noderun.data.points import require_none
from noderun.data.series import Records, packed_rows, series_dataset

FOLDER, HOURS = "PhysioNet2012/raw", 48.0
WHERE = "physionet.org/content/challenge-2012/1.0.0 has it"
ONCE = ("Age", "Gender", "Height", "ICUType")  # of the patient rather than of a time; -1 where unknown
CHANNELS = (
    *("Age", "Gender", "Height", "ICUType", "Weight", "ALP", "ALT", "AST", "Albumin", "BUN", "Bilirubin"),
    *("Cholesterol", "Creatinine", "DiasABP", "FiO2", "GCS", "Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "MAP"),
    *("MechVent", "Mg", "NIDiasABP", "NIMAP", "NISysABP", "Na", "PaCO2", "PaO2", "Platelets", "RespRate", "SaO2"),
    *("SysABP", "Temp", "TroponinI", "TroponinT", "Urine", "WBC", "pH"),
)


def require(root: Path) -> None:
    for file in ("set-a.tar.gz", "Outcomes-a.txt", "set-b.tar.gz", "Outcomes-b.txt"):
        if not (root / FOLDER / file).exists():
            raise DataMissing(f"no file {root.absolute() / FOLDER / file}; {WHERE}")


def physionet2012(
    root: Path, augment: bool = False, *, quantize: float = 0.1, task: str | None = None, **asked: Any
) -> Dataset:
    """Set a trains and set b tests, 4000 stays each, 41 channels; classify: death in hospital.

    Times are hours in units of the 48, rounded to ``quantize`` hours; values that fall together are averaged.
    """
    require_none("physionet2012", augment)
    require(root)
    train, test = (read_set(root / FOLDER, letter, quantize) for letter in "ab")
    return series_dataset("physionet2012", train, test, task or "classify", classes=2, **asked)


def read_set(folder: Path, letter: str, quantize: float) -> Records:
    """The archive of one set, read in memory; nothing is unpacked or kept on disk."""
    import pandas

    outcomes = pandas.read_csv(io.BytesIO(read_bytes(folder / f"Outcomes-{letter}.txt"))).set_index("RecordID")
    table = pandas.read_csv(io.BytesIO(joined(folder / f"set-{letter}.tar.gz")), header=None)
    table.columns = ["time", "channel", "value"]
    table["stay"] = table["value"].where(table["channel"] == "RecordID").ffill().astype("int64")
    channel = table["channel"].map({name: i for i, name in enumerate(CHANNELS)})
    unknown = table["channel"].isin([*ONCE, "Weight"]) & (table["value"] < 0)
    kept = table[channel.notna() & ~unknown & table["value"].notna()].assign(channel=channel)
    clock = kept["time"].str.split(":", expand=True).astype(float)
    step = ((clock[0] + clock[1] / 60) / quantize).round().astype("int64") if quantize else clock[0] * 60 + clock[1]
    unit = quantize / HOURS if quantize else 1 / (60 * HOURS)
    means = kept.assign(step=step).groupby(["stay", "step", "channel"], sort=True)["value"].mean().reset_index()
    stays = torch.from_numpy(outcomes.index.to_numpy())
    missing = set(outcomes.index) - set(means["stay"])
    if missing:
        raise DataError(f"PhysioNet 2012, set {letter}: stay {min(missing)} has an outcome and no measurement")
    columns = {name: torch.from_numpy(means[name].to_numpy()) for name in ("stay", "step", "channel", "value")}
    row = torch.searchsorted(stays, columns["stay"])
    labels = torch.from_numpy(outcomes["In-hospital_death"].to_numpy()).long()
    values, times, mask = packed_rows(
        row, columns["step"].double() * unit, columns["channel"].long(), columns["value"], (len(stays), len(CHANNELS))
    )
    return Records(values, times, mask, labels=labels)


def joined(path: Path) -> bytes:
    """The lines of all files of the archive, without their headings."""
    parts = []
    try:
        with tarfile.open(fileobj=io.BytesIO(read_bytes(path))) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is not None and member.name.endswith(".txt"):
                    parts.append(file.read().partition(b"\n")[2])
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} is corrupt ({error}); {WHERE}") from error
    return b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts)
