"""The table at the end of a run, and the one across runs that shows only what varies."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from noderun.record import files
from noderun.record.metric import CHOICES, METRICS
from noderun.report.cells import Cell, print_facts, print_table

Result = Mapping[str, Any]  # what a result.json holds

FORMULA = ("=", "+", "-", "@", "\t", "\r")
WORDS = (*CHOICES[1:], "device", "status")


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float


def show(key: str, value: Any) -> str:
    """A cell: `-` where a value does not apply."""
    if value is None:
        return "-"
    if isinstance(value, Spread):
        return f"{show(key, value.mean)} ± {show(key, value.deviation)}"
    if key in METRICS:
        return format(value, METRICS[key].format)
    if key.endswith("_se"):
        return f"{value:.2g}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def heading(key: str) -> str:
    """What a column is called; NAME_se is the standard error of NAME over examples, NAME_draws_se that over draws."""
    for ending, words in (("_draws_se", "standard error of {} over draws"), ("_se", "standard error of {}")):
        name = key.removesuffix(ending)
        if name in METRICS and key.endswith(ending):
            return words.format(METRICS[name].label)
    return METRICS[key].heading if key in METRICS else key


def run_rows(result: Result) -> list[tuple[str, str]]:
    """(heading, value) of all that applies to one run: what it found, then what it cost."""
    return [(heading(key), show_with_error(key, result)) for key in METRICS if result.get(key) is not None]


def show_with_error(key: str, result: Result) -> str:
    """A number of one run, with its standard error over the test's examples if it has one."""
    error = result.get(f"{key}_se")
    return show(key, result[key]) + (f" (standard error {error:.2g})" if error is not None else "")


def varying(results: Sequence[Result], keys: Sequence[str]) -> list[str]:
    """The keys whose value is not the same in all results."""
    return [key for key in keys if len({repr(result.get(key)) for result in results}) > 1]


def best(results: Sequence[Result], key: str) -> int | None:
    """Index of the result with the best number under ``key``; None if none or all are best."""
    if key not in METRICS or METRICS[key].better is None:
        return None
    if len({data for result in results if (data := result.get("data"))}) > 1:
        return None  # on another set of data nothing is better or worse
    if key == "memory_peak_mib" and any(result.get("device") == "cpu" for result in results):
        return None  # it is that of the process, most of which is torch
    numbers = {i: centre(value) for i, result in enumerate(results) if (value := result.get(key)) is not None}
    if len({show(key, results[i][key]) for i in numbers}) < 2:  # what looks the same is not better
        return None
    choose = max if METRICS[key].better == "higher" else min
    return choose(numbers, key=numbers.__getitem__)


def troubles(results: Sequence[Result]) -> list[str]:
    """The columns that say what was not done, and why."""
    return ["status", "reason"] if any(result.get("reason") for result in results) else []


def centre(value: float | Spread) -> float:
    return value.mean if isinstance(value, Spread) else value


def over_seeds(results: Sequence[Result], swept: Sequence[str]) -> list[Result]:
    """Results that differ in nothing but the seed as one: numbers as their mean and spread, ``seeds`` how many."""
    keys = [key for key in (*swept, *WORDS) if key != "seed"]
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(repr(result.get(key)) for key in keys), []).append(result)
    if len(groups) == len(results):
        return list(results)
    return [together(group) for group in groups.values()]


def together(group: Sequence[Result]) -> Result:
    merged = dict(group[0]) | {"seed": group[0].get("seed") if len(group) == 1 else None, "seeds": len(group)}
    for key in METRICS:
        values = [result[key] for result in group if result.get(key) is not None]
        if len(values) > 1 and len(set(values)) > 1:
            merged[key] = Spread(statistics.fmean(values), statistics.stdev(values))
    return merged


def headlines() -> list[str]:
    """The metrics that are shown if runs are compared."""
    return [name for name, metric in METRICS.items() if metric.headline]


def columns(results: Sequence[Result], swept: Sequence[str] = ()) -> list[str]:
    """The columns of a comparison: swept keys and words that vary and say something new, and all that was found.

    Of one line nothing varies, so all that applies is shown.
    """
    wanted = [*dict.fromkeys([*swept, *WORDS, "seeds", *headlines()]), "reason"]
    found = {key for key in ("seeds", *headlines()) if any(result.get(key) is not None for result in results)}
    if len(results) == 1:
        return [key for key in wanted if results[0].get(key) is not None]
    keys: dict[tuple[str, ...], str] = {}
    told = {*varying(results, (*swept, *WORDS)), *troubles(results), *found}
    for key in [key for key in wanted if key in told]:
        said = tuple(show(key, result.get(key)) for result in results)
        keys.setdefault(said if key in (*swept, *WORDS) else (key,), key)
    return list(keys.values())


def comparison_cells(results: Sequence[Result], keys: Sequence[str]) -> list[list[Cell]]:
    """Cells with whether each is the best of its column."""
    winners = {key: best(results, key) for key in keys}
    return [[(show(key, result.get(key)), winners[key] == i) for key in keys] for i, result in enumerate(results)]


def print_run(result: Result, folder: Path) -> None:
    """The table of a finished run on stdout, and how to see its curves; its folder is left to the caller."""
    words = [show(key, result[key]) for key in ("model", "solver", "gradient", "data") if result.get(key) is not None]
    print_facts(run_rows(result), " ".join(words))
    print(f"tensorboard --logdir {folder}")


def print_comparison(results: Sequence[Result], folder: Path, swept: Sequence[str] = ()) -> None:
    """One row a result, the best number of each column bold, and how to see the curves."""
    merged = over_seeds(results, swept)
    keys = columns(merged, swept)
    print_table([heading(key) for key in keys], comparison_cells(merged, keys))
    print(f"tensorboard --logdir {folder}")


def write_csv(results: Sequence[Result], path: Path) -> None:
    """results.csv, all or nothing."""
    with files.replacing(path) as new, new.open("w", newline="") as file:
        write_rows(results, file)


def write_rows(results: Sequence[Result], file: TextIO) -> None:
    """One line of CSV per result with every key that any of them has, empty for null."""
    keys = list(dict.fromkeys(key for result in results for key in result))
    writer = csv.writer(file)
    writer.writerow(map(as_cell, keys))
    writer.writerows([as_cell(result.get(key)) for key in keys] for result in results)


def as_cell(value: Any) -> Any:
    """A value as it stands in a CSV file; a quote goes before a word that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
