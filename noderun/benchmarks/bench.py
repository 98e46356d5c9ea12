"""Runs suites: agreement first, then times, then the table, JSON, CSV and figure."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noderun.benchmarks.case import Case
from noderun.benchmarks.cases import SUITES
from noderun.benchmarks.timing import Timing, interleaved


@dataclass(frozen=True)
class Row:
    """One contender on one case; times in milliseconds a call."""

    suite: str
    case: str
    contender: str
    milliseconds: float
    low: float
    high: float
    times_limit: float  # median over the limit's
    error: float | None  # relative, against a tight float64 solve


class Disagreement(RuntimeError):
    """A contender does not reach the accuracy that the others do: its time would mean nothing."""


def run_suite(suite: str, device: str, rounds: int, seconds: float, quick: bool) -> Iterator[Row]:
    for case in SUITES[suite](device, quick):
        yield from run_case(case, rounds, seconds)


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


def write(rows: list[Row], machine: dict[str, Any], folder: Path) -> None:
    """bench.json with the machine, and results.csv."""
    records = [asdict(row) for row in rows]
    (folder / "bench.json").write_text(json.dumps({"machine": machine, "rows": records}, indent=2) + "\n")
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
