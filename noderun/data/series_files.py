"""Published sets of series, from their files under data.root; where a copy comes from is said if one is missing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noderun.data.dataset import Dataset
from noderun.data.files import DataError, DataMissing, corrupt, first_line, read_bytes, read_verified
from noderun.data.mechanics import of_system
from noderun.data.points import require_none
from noderun.data.series import Records, padded, series_dataset
from noderun.data.system import System

FILES = {  # set -> its files under data.root, and where a copy comes from
    "lynx_hare": (("LynxHare/hudson-bay-lynx-hare.csv",), "stan-dev/example-models, knitr/lotka-volterra, has it"),
    "japanese_vowels": (
        ("UEA/JapaneseVowels/JapaneseVowels_TRAIN.ts", "UEA/JapaneseVowels/JapaneseVowels_TEST.ts"),
        "timeseriesclassification.com has them",
    ),
    "mocap35": (("CMUMocap/mocap35.mat",), "uncbiag/neuro_shooting, data/mocap, has it"),
    "mujoco_forecast": (
        ("MuJoCo/mujoco.npy",),
        "yongkyung-oh/Stable-Neural-SDEs, benchmark_forecasting/datasets, has it",
    ),
}
MOCAP35_MD5, SPLITS = "0a9fbc8d15142173c1e191cd00c5682c", ("tr", "val", "test")

CARPENTER = {  # Stan's case study of predator and prey (2018): posterior means between 10 % and 90 %
    "alpha": (0.465, 0.545, 0.630),
    "beta": (0.022, 0.028, 0.033),
    "gamma": (0.692, 0.803, 0.926),
    "delta": (0.020, 0.024, 0.029),
    "start 0": (5.27, 5.93, 6.61),  # the lynx of 1900
    "start 1": (30.4, 33.96, 37.6),  # the hares of 1900
}


def require(name: str, root: Path) -> None:
    """DataMissing for the first file of a set that is not there."""
    files, where = FILES[name]
    for file in files:
        if not (root / file).exists():
            raise DataMissing(f"no file {root.absolute() / file}; {where}")


def lynx_hare(root: Path, augment: bool = False, *, task: str | None = None, **asked: Any) -> Dataset:
    """Pelts of lynx and hare, thousands a year, 1900 to 1920 (Hudson's Bay Company): one series, which is also the
    test; time is in years from 1900."""
    import numpy

    require_none("lynx_hare", augment)
    require("lynx_hare", root)
    text = read_bytes(root / FILES["lynx_hare"][0][0]).decode()
    rows = [line for line in text.splitlines() if line[:1].isdigit()]
    table = torch.from_numpy(numpy.loadtxt(rows, delimiter=",", dtype="float32"))
    records = complete(table[:, 1:].unsqueeze(0), table[:, 0] - table[0, 0])
    dataset = series_dataset("lynx_hare", records, records, task or "interpolate", **asked)
    return of_system(dataset, System(published=CARPENTER))


def japanese_vowels(root: Path, augment: bool = False, *, task: str | None = None, **asked: Any) -> Dataset:
    """Nine speakers say a vowel: 270 and 370 series of 12 channels, 7 to 29 times (Kudo et al. 1999; UEA archive)."""
    require_none("japanese_vowels", augment)
    require("japanese_vowels", root)
    train, test = (ts_file(root / file) for file in FILES["japanese_vowels"][0])
    return series_dataset("japanese_vowels", train, test, task or "classify", classes=9, **asked)


def ts_file(path: Path) -> Records:
    """A .ts file of the UEA archive with labels 1, 2, ...: a line per series, ``:`` between channels."""
    lines = read_bytes(path).decode().partition("@data")[2].strip().splitlines()
    series, labels = [], []
    for number, line in enumerate(lines, start=1):
        *channels, label = line.strip().split(":")
        try:
            if not channels:
                raise ValueError("it has no values")
            values = torch.tensor([[float(value) for value in channel.split(",")] for channel in channels])
            series.append(values.reshape(len(channels), -1).mT)
            labels.append(int(label) - 1)
        except ValueError as error:
            raise DataError(f"{path}: series {number} cannot be read ({error})") from None
    if not series:
        raise DataError(f"{path} holds no series")
    return padded(series, [torch.arange(float(len(values))) for values in series], labels=torch.tensor(labels))


def npy_file(path: Path) -> Tensor:
    """The array of a file of NumPy's, as float32."""
    import numpy

    content = read_bytes(path)
    try:
        return torch.from_numpy(numpy.load(io.BytesIO(content))).float()
    except Exception as error:  # whatever the damage makes the reader stumble over
        raise corrupt(path, first_line(error)) from error


def mocap35(root: Path, augment: bool = False, *, task: str | None = None, **asked: Any) -> Dataset:
    """CMU motion capture, subject 35 walking: 16 series of 300 frames, 50 joint angles (Yildiz et al. 2019), time in
    units of 100 frames; 3 of validation, 4 of the test. A forecast starts from 3 frames (Li et al. 2020) with
    data.history=0.01."""
    from scipy.io import loadmat

    require_none("mocap35", augment)
    require("mocap35", root)
    # a sum comes first: scipy's reader ends the process at some damaged files
    parts = loadmat(io.BytesIO(read_verified(root / FILES["mocap35"][0][0], MOCAP35_MD5)))
    times = 0.01 * torch.arange(300.0)
    train, validation, test = (complete(torch.from_numpy(parts[f"X{split}"]).float(), times) for split in SPLITS)
    return series_dataset("mocap35", train, test, task or "forecast", validation=validation, **asked)


def mujoco_forecast(root: Path, augment: bool = False, *, task: str | None = None, **asked: Any) -> Dataset:
    """Hopper in MuJoCo: 100 series of 100 times, 14 channels, as used for forecasts since ANCDE; the last 20 test."""
    require_none("mujoco_forecast", augment)
    require("mujoco_forecast", root)
    values = npy_file(root / FILES["mujoco_forecast"][0][0])
    train, test = (complete(part, 0.1 * torch.arange(100.0)) for part in (values[:80], values[80:]))
    return series_dataset("mujoco_forecast", train, test, task or "forecast", **asked)


def complete(values: Tensor, times: Tensor) -> Records:
    """Series [N, T, D] without gaps, at common times [T]."""
    return Records(values, times.expand(values.shape[:2]).contiguous(), torch.ones(values.shape, dtype=torch.bool))
