"""Runs suites: agreement first, then times; JSON with the machine, CSV, and the figure."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from noderun.benchmarks.case import LIMIT, Case
from noderun.benchmarks.cases import SUITES
from noderun.benchmarks.timing import Timing, interleaved
from noderun.report.style import COLOURS, figure
from noderun.report.table import write_csv


@dataclass(frozen=True)
class Row:
    """One contender on one case; times in milliseconds a call, ``times_first`` over the case's first contender."""

    suite: str
    case: str
    contender: str
    milliseconds: float
    low: float
    high: float
    times_first: float
    error: float | None  # relative, against a tight float64 solve


class Disagreement(ValueError):
    """A contender does not reach the accuracy that the others do: its time would mean nothing."""


def run_suites(
    suite: str, device: str, rounds: int, seconds: float, quick: bool, tell: Callable[[str], None]
) -> list[Row]:
    rows = []
    for name in SUITES if suite == "all" else [suite]:
        for case in SUITES[name](device, quick):
            timed = run_case(case, rounds, seconds)
            tell(f"{case.name}: " + ", ".join(f"{row.contender} {row.milliseconds:.2f} ms" for row in timed))
            rows += timed
    return rows


def run_case(case: Case, rounds: int, seconds: float) -> list[Row]:
    errors = case.errors()
    for name, error in errors.items():
        if not error <= case.allowed:
            raise Disagreement(f"{name} on {case.name}: relative error {error:.1e}, more than {case.allowed:.0e}")
    timings = interleaved(case.contenders, rounds, seconds)
    first = next(iter(timings.values()))
    return [row(case, name, timing, first, errors.get(name)) for name, timing in timings.items()]


def row(case: Case, name: str, timing: Timing, first: Timing, error: float | None) -> Row:
    median, low, high = (1e3 * x for x in (timing.median, timing.low, timing.high))
    return Row(case.suite, case.name, name, median, low, high, timing.median / first.median, error)


def machine(absent: Sequence[str], device: str) -> dict[str, Any]:
    """Where and with what this was measured."""
    packages = ("noderun", "torch", "torchdiffeq", "torchode", "diffrax", "jax")
    versions = {name: version for name in packages if (version := version_of(name)) is not None}
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "device": device,
        "processor": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "absent": list(absent),
    }


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write(rows: Sequence[Row], absent: Sequence[str], device: str, folder: Path) -> None:
    """bench.json, results.csv, figures/ratios.png."""
    records = [asdict(row) for row in rows]
    (folder / "bench.json").write_text(json.dumps({"machine": machine(absent, device), "rows": records}, indent=2))
    write_csv(records, folder / "results.csv")
    draw(rows, folder / "figures" / "ratios.png")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Each case's contenders as points on a log axis of time over the limit's; the CSV is results.csv."""
    shown = [row for row in rows if any(r.contender == LIMIT and r.case == row.case for r in rows)]
    if not shown:
        return
    cases = list(dict.fromkeys(f"{row.suite}: {row.case}" for row in shown))
    names = list(dict.fromkeys(row.contender.split()[0] for row in shown if row.contender != LIMIT))
    path.parent.mkdir(exist_ok=True)
    with figure(width=11.0, height=1.2 + 0.3 * len(cases)) as (drawn, panels):
        axes = panels[0, 0]
        for i, name in enumerate(names):
            mine = [row for row in shown if row.contender.split()[0] == name]
            places = [len(cases) - cases.index(f"{row.suite}: {row.case}") for row in mine]
            axes.plot([row.times_first for row in mine], places, "o", color=COLOURS[i % len(COLOURS)], label=name)
        axes.axvline(1.0, color="black", linewidth=1)
        axes.set_xscale("log")
        axes.set_yticks(range(1, len(cases) + 1), labels=list(reversed(cases)), fontsize=7)
        axes.set_xlabel("time over the limit's")
        axes.legend(loc="upper right")
        drawn.savefig(path)
