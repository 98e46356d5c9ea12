"""The table at the end of a run, and the one across runs that shows only what varies."""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from noderun.config.validation import printable
from noderun.record import files
from noderun.record.metric import CHOICES, METRICS

Result = Mapping[str, Any]  # what a result.json holds
Cell = tuple[str, bool]  # its text, and whether it is bold

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
    return f"{value:g}" if isinstance(value, float) else str(value)


def heading(key: str) -> str:
    """What a column is called; NAME_se is the standard error of NAME over examples, NAME_draws_se that over draws."""
    for ending, words in (("_draws_se", "standard error over draws"), ("_se", "standard error")):
        if key.removesuffix(ending) in METRICS and key.endswith(ending):
            return words
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
    if (
        len({data for result in results if (data := result.get("data"))}) > 1
    ):  # on another set of data nothing is better or worse
        return None
    numbers = {i: centre(value) for i, result in enumerate(results) if (value := result.get(key)) is not None}
    if len(set(numbers.values())) < 2:
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
    return [group[0] if len(group) == 1 else together(group) for group in groups.values()]


def together(group: Sequence[Result]) -> Result:
    merged = dict(group[0]) | {"seed": None, "seeds": len(group)}
    for key in METRICS:
        values = [result[key] for result in group if result.get(key) is not None]
        if len(values) > 1 and len(set(values)) > 1:
            merged[key] = Spread(statistics.fmean(values), statistics.stdev(values))
    return merged


def headlines() -> list[str]:
    """The metrics that are shown if runs are compared."""
    return [name for name, metric in METRICS.items() if metric.headline]


def columns(results: Sequence[Result], swept: Sequence[str] = ()) -> list[str]:
    """The columns of a comparison: swept keys, words and headlines, each only if it varies and says something new.

    Of one line nothing varies, so all that applies is shown.
    """
    wanted = [*dict.fromkeys([*swept, *WORDS, "seeds", *headlines()]), "reason"]
    if len(results) == 1:
        return [key for key in wanted if results[0].get(key) is not None]
    keys: dict[tuple[str, ...], str] = {}
    told = {*varying(results, wanted[:-1]), *troubles(results)}
    for key in [key for key in wanted if key in told]:
        said = tuple(show(key, result.get(key)) for result in results)
        keys.setdefault(said if key in (*swept, *WORDS) else (key,), key)
    return list(keys.values())


def comparison_table(results: Sequence[Result], swept: Sequence[str] = ()) -> Table:
    """One row a result, only columns that vary, the best number of each column bold."""
    keys = columns(results, swept)
    return filled_table([heading(key) for key in keys], comparison_cells(results, keys))


def comparison_cells(results: Sequence[Result], keys: Sequence[str]) -> list[list[Cell]]:
    """Cells with whether each is the best of its column."""
    winners = {key: best(results, key) for key in keys}
    return [[(show(key, result.get(key)), winners[key] == i) for key in keys] for i, result in enumerate(results)]


def filled_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    table = Table(*map(shown, headings))
    for row in rows:
        table.add_row(*(f"[bold]{shown(text)}[/]" if bold else shown(text) for text, bold in row))
    return table


def shown(text: str) -> str:
    """Text of a table in a terminal, whatever a stranger's folder holds: no markup and no control characters."""
    from rich.markup import escape

    return escape(printable(text))


def run_table(result: Result) -> Table:
    words = [show(key, result[key]) for key in ("model", "solver", "gradient", "data") if result.get(key) is not None]
    table = Table(title=" ".join(words), title_justify="left", show_header=False)
    for name, value in run_rows(result):
        table.add_row(name, value)
    return table


def print_run(result: Result, folder: Path) -> None:
    """The table of a finished run on stdout, and how to see its curves; its folder is left to the caller."""
    print_table(run_table(result))
    print(f"tensorboard --logdir {folder}")


def print_comparison(results: Sequence[Result], folder: Path, swept: Sequence[str] = ()) -> None:
    print_table(comparison_table(over_seeds(results, swept), swept))
    print(f"tensorboard --logdir {folder}")


def print_table(table: Table) -> None:
    # a pipe has no width to keep to, and a table that was cut to 80 columns is no result
    Console(width=None if sys.stdout.isatty() else 240).print(table)


def write_csv(results: Sequence[Result], path: Path) -> None:
    """results.csv: one line per result with every key that any of them has, empty for null."""
    keys = list(dict.fromkeys(key for result in results for key in result))
    with files.replacing(path) as new, new.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(as_cell, keys))
        writer.writerows([as_cell(result.get(key)) for key in keys] for result in results)


def as_cell(value: Any) -> Any:
    """A value as it stands in a CSV file; a quote goes before a word that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
