"""Runs suites: agreement first, then costs; JSON with the machine, CSV, tables and figures."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from noderun.benchmarks.case import Case, Failure, Row, reason, require_agreement
from noderun.benchmarks.cases import gradient_cases, solve_cases
from noderun.benchmarks.figures import draw_memory, draw_times
from noderun.benchmarks.flows import flow_cases
from noderun.benchmarks.gpu import gpu_cases
from noderun.benchmarks.memory import MemoryRow, memory_rows
from noderun.benchmarks.series import series_cases
from noderun.benchmarks.settings import Settings
from noderun.benchmarks.startup import startup_cases
from noderun.benchmarks.step import epoch_cases
from noderun.benchmarks.stochastic import stochastic_cases, stochastic_memory
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
    "gpu": lambda settings, device: gpu_cases(device, settings.quick),
    "flows": lambda settings, device: flow_cases(device, settings.quick),
    "series": lambda settings, device: series_cases(device, settings.quick),
    "stochastic": lambda settings, device: stochastic_cases(device, settings.quick),
}
MEMORY: dict[str, Callable[[Settings, str], Iterator[list[MemoryRow] | Failure]]] = {
    "memory": lambda settings, device: memory_rows(device, settings.quick),
    "stochastic": lambda settings, device: stochastic_memory(device, settings.quick),
}
ALL = ("solve", "gradient", "training", "startup", "memory")  # the others only if asked for
PACKAGES = "noderun torch torchdiffeq torchode diffrax jax zuko torchcfm normflows POT torchcde torchsde".split()


@dataclass(frozen=True)
class BenchResult:
    """The results of one run."""

    times: list[Row]
    memory: list[MemoryRow]
    failures: list[Failure]


class Incomplete(ValueError):
    """Some contenders failed; everything else was measured and written."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        more = f"; {len(failures) - 1} more failed" if len(failures) > 1 else ""
        super().__init__(f"not all was measured: {failures[0]}{more}")


def run_suites(settings: Settings, device: str, tell: Callable[[str], None]) -> BenchResult:
    """Turn an exception of a suite or a contender into a row, so that the others go on."""
    found = BenchResult([], [], [])
    suites = ALL if settings.suite == "all" else (settings.suite,)
    for suite in [suite for suite in TIMED if suite in suites]:
        try:
            for case in TIMED[suite](settings, device):
                rows, failures = run_case(case, settings.rounds, settings.seconds)
                told = [f"{row.contender} {row.milliseconds:.2f} ms" for row in rows]
                tell(f"{case.name}: " + ", ".join(told + [f"{failure.contender} failed" for failure in failures]))
                found.times.extend(rows)
                found.failures.extend(failures)
        except Exception as error:  # in making a case
            found.failures.append(Failure(suite, "all cases that follow", "all", reason(error)))
    for suite in [suite for suite in MEMORY if suite in suites]:
        for held in MEMORY[suite](settings, device):
            if isinstance(held, Failure):
                found.failures.append(held)
                continue
            tell(f"{held[-1].contender}, NFE {held[-1].nfe}: holds {held[-1].held_mib:.2f} MiB")
            found.memory.extend(held)
    return found


def run_case(case: Case, rounds: int, seconds: float) -> tuple[list[Row], list[Failure]]:
    """Time the contenders that agree; all times are given over the first, so nothing is timed if it fails."""
    errors, failures = checked(case)
    first = next(iter(case.contenders))
    if first in failures:
        failures |= {name: f"not timed, for {first} failed" for name in case.contenders if name not in failures}
    sound = {name: run for name, run in case.contenders.items() if name not in failures}
    timings = once(sound) if case.once else interleaved(sound, rounds, seconds)
    rows = [row(case, name, timing, timings[first], errors.get(name)) for name, timing in timings.items()]
    return rows, [Failure(case.suite, case.name, name, why) for name, why in failures.items()]


def checked(case: Case) -> tuple[dict[str, float], dict[str, str]]:
    """The errors of the contenders, and the reason for each that failed."""
    errors, failures = {}, {}
    for name, run in case.contenders.items():
        try:
            if name in case.errors:
                errors[name] = case.errors[name]()
                require_agreement(errors[name], case.allowed)
            elif not case.once:
                run()
        except Exception as error:
            failures[name] = reason(error)
    return errors, failures


def row(case: Case, name: str, timing: Timing, first: Timing, error: float | None) -> Row:
    median, low, high = (1e3 * x for x in (timing.median, timing.low, timing.high))
    return Row(case.suite, case.name, name, median, low, high, timing.median / first.median, error)


def machine(absent: Sequence[str], device: str) -> dict[str, Any]:
    """The machine and the versions."""
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
    """The processor's name if Linux tells it, else its kind."""
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


def write(found: BenchResult, absent: Sequence[str], device: str, command: str, folder: Path) -> None:
    """bench.json, results.csv, tables.md, and in figures/ one figure per suite beside its CSV."""
    rows = {field.name: [asdict(row) for row in getattr(found, field.name)] for field in fields(found)}
    facts = machine(absent, device)
    (folder / files.BENCH).write_text(json.dumps({"machine": facts, "command": command, **rows}, indent=2))
    write_csv([row for kind in rows.values() for row in kind], folder / files.RESULTS)
    (folder / files.TABLES).write_text(page(found.times, found.memory, found.failures, facts, command))
    for suite in dict.fromkeys(row.suite for row in found.times):
        draw_times([row for row in found.times if row.suite == suite], folder / files.FIGURES / f"{suite}.png")
    if found.memory:
        draw_memory(found.memory, folder / files.FIGURES / "memory.png")
