"""`noderun doctor [data.root=PATH]`: what this machine offers, what is missing, and what to do about it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from noderun.cli.tasks.data import root_of

EXTRAS = {
    "torchdiffeq": "bench",
    "torchode": "bench",
    "diffrax": "bench",
    "submitit": "slurm",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "hydra_plugins.hydra_joblib_launcher": "joblib",
}
GOOD, ABSENT, BAD = "ok", "--", "!!"  # absent is a choice, bad keeps noderun from working
Finding = tuple[str, str, str]  # mark, what, what was found


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("noderun doctor", description="What this machine offers and what is missing.")
    parser.add_argument("root", nargs="?", metavar="data.root=PATH", help="where data are looked for")
    return parser


def main(words: list[str]) -> int:
    parser().parse_args(words)
    broken = False
    for mark, what, found in findings(root_of(words)):
        print(f"{mark}  {what:<14}{found}", flush=True)
        broken |= mark == BAD
    return 1 if broken else 0


def findings(root: str) -> Iterator[Finding]:
    yield GOOD, "python", platform.python_version()
    yield from packages()
    yield from devices()
    yield from data_sets(root)
    for name, extra in EXTRAS.items():
        there = name.partition(".")[0] != name and importlib.util.find_spec(name.partition(".")[0]) is None
        found = not there and importlib.util.find_spec(name) is not None
        yield (GOOD, "optional", name) if found else (ABSENT, "optional", f"{name}: pip install 'noderun[{extra}]'")
    yield outputs(Path("outputs"))


def packages() -> Iterator[Finding]:
    windows = tested()
    for name in ("noderun", "torch", "torchvision", "hydra-core", "tensorboard"):
        try:
            yield name_and_version(name, metadata.version(name), windows.get(name))
        except metadata.PackageNotFoundError:
            yield BAD, name, f"not installed: pip install {name}"
    from noderun.data import DataError
    from noderun.data.vision import published

    try:
        published("mnist")
    except DataError as error:
        yield ABSENT, "downloads", str(error)


def tested() -> dict[str, SpecifierSet]:
    """The releases that pyproject.toml names, by package."""
    try:
        requirements = [Requirement(text) for text in metadata.requires("noderun") or ()]
    except metadata.PackageNotFoundError:
        return {}
    return {r.name: r.specifier for r in requirements if r.specifier and not r.marker}


def name_and_version(name: str, version: str, window: SpecifierSet | None) -> Finding:
    if window is None:
        return GOOD, name, version
    if window.contains(version, prereleases=True):
        return GOOD, name, f"{version}, of the tested releases {window}"
    return BAD, name, f"{version} is outside the tested releases {window}: pip install '{name}{window}'"


def devices() -> Iterator[Finding]:
    import torch

    yield GOOD, "cpu", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads (OMP_NUM_THREADS changes them)"
    for i in range(torch.cuda.device_count()):
        name, memory = torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory / 2**30
        yield GOOD, f"cuda:{i}", f"{name}, {memory:.0f} GiB"
    if not torch.cuda.is_available():
        yield ABSENT, "cuda", "no CUDA device; device=auto takes the CPU"


def data_sets(root: str) -> Iterator[Finding]:
    from noderun.data import SETS, DataError, check

    for name in SETS:
        try:
            yield GOOD, "data", check(name, root)
        except DataError as error:
            yield ABSENT, "data", str(error)


def outputs(folder: Path) -> Finding:
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return GOOD, "outputs", str(folder.absolute())
    return BAD, "outputs", f"{place} cannot be written to; run from another folder"
