"""Runs suites: agreement first, then costs; JSON with the machine, CSV, tables and figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from noderun.benchmarks.case import Case, Row, require_agreement
from noderun.benchmarks.cases import gradient_cases, solve_cases
from noderun.benchmarks.figures import draw_memory, draw_times
from noderun.benchmarks.memory import MemoryRow, memory_rows
from noderun.benchmarks.settings import Settings
from noderun.benchmarks.startup import startup_cases
from noderun.benchmarks.step import epoch_cases
from noderun.benchmarks.tables import page
from noderun.benchmarks.timing import Timing, interleaved, once
from noderun.benchmarks.training import training_cases
from noderun.record import files
from noderun.report.table import write_csv

TIMED: dict[str, Callable[[Settings, str], Iterator[Case]]] = {
    "solve": lambda settings, device: solve_cases(device, settings.quick),
    "gradient": lambda settings, device: gradient_cases(device, settings.quick),
    "training": lambda settings, device: training_cases(device, settings.quick),
    "startup": lambda settings, device: startup_cases(settings.quick),
    "epoch": lambda settings, device: epoch_cases(settings.data, device),
}
ALL = ("solve", "gradient", "training", "startup", "memory")  # an epoch only where it is asked for
PACKAGES = ("noderun", "torch", "torchdiffeq", "torchode", "diffrax", "jax")


@dataclass(frozen=True)
class Found:
    """What was measured."""

    times: list[Row]
    memory: list[MemoryRow]


def run_suites(settings: Settings, device: str, tell: Callable[[str], None]) -> Found:
    found = Found([], [])
    suites = ALL if settings.suite == "all" else (settings.suite,)
    for suite in [suite for suite in TIMED if suite in suites]:
        for case in TIMED[suite](settings, device):
            rows = run_case(case, settings.rounds, settings.seconds)
            tell(f"{case.name}: " + ", ".join(f"{row.contender} {row.milliseconds:.2f} ms" for row in rows))
            found.times.extend(rows)
    if "memory" in suites:
        for held in memory_rows(device, settings.quick):
            tell(f"{held[-1].contender}, NFE {held[-1].nfe}: holds {held[-1].held_mib:.2f} MiB")
            found.memory.extend(held)
    return found


def run_case(case: Case, rounds: int, seconds: float) -> list[Row]:
    errors = case.errors()
    require_agreement(case.name, errors, case.allowed)
    timings = once(case.contenders) if case.once else interleaved(case.contenders, rounds, seconds)
    first = next(iter(timings.values()))
    return [row(case, name, timing, first, errors.get(name)) for name, timing in timings.items()]


def row(case: Case, name: str, timing: Timing, first: Timing, error: float | None) -> Row:
    median, low, high = (1e3 * x for x in (timing.median, timing.low, timing.high))
    return Row(case.suite, case.name, name, median, low, high, timing.median / first.median, error)


def machine(absent: Sequence[str], device: str) -> dict[str, Any]:
    """Where and with what this was measured."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    return {
        "device": device,
        "processor": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := version_of(name)) is not None},
        "absent": list(absent),
    }


def processor() -> str:
    """The processor's name where Linux tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write(found: Found, absent: Sequence[str], device: str, command: str, folder: Path) -> None:
    """bench.json, results.csv, tables.md, and in figures/ one figure a suite beside its CSV."""
    times, memory = ([asdict(row) for row in rows] for rows in (found.times, found.memory))
    facts = machine(absent, device)
    text = json.dumps({"machine": facts, "command": command, "times": times, "memory": memory}, indent=2)
    (folder / files.BENCH).write_text(text)
    write_csv(times + memory, folder / files.RESULTS)
    (folder / files.TABLES).write_text(page(found.times, found.memory, facts, command))
    for suite in dict.fromkeys(row.suite for row in found.times):
        draw_times([row for row in found.times if row.suite == suite], folder / files.FIGURES / f"{suite}.png")
    if found.memory:
        draw_memory(found.memory, folder / files.FIGURES / "memory.png")
