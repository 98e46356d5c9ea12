"""`noderun runs [key=value] [--sort KEY] [--csv | --json | --latex]`: every run, its settings and its numbers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.config.validation import ConfigError, did_you_mean
from noderun.record.ledger import load_runs
from noderun.record.run_identity import NOT_IN_IDENTITY

Row = dict[str, Any]
SETTINGS = (
    *("task", "problem", "model", "data", "solver", "gradient"),
    *("tolerance", "solver.dt", "optimizer.lr", "epochs", "seed"),
)
PAPER = 100  # characters of a table that fits a page
SAID_ALREADY = {"solver.rtol", "solver.atol", "gradient.rtol", "gradient.atol", "scheduler.horizon"}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "noderun runs",
        description="The ledger: every run with its date, the settings in which runs differ, and its headline numbers. "
        "What a terminal has no room for is left out and named below the table; a pipe has all of it.",
        epilog="Example: noderun runs model=odenet optimizer.lr=0.01 --sort -test_error",
    )
    parser.add_argument("filters", nargs="*", metavar="KEY=VALUE", help="only runs with this setting, number or status")
    parser.add_argument("--sort", metavar="KEY", help="smallest first; -KEY: largest first")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="the folder to look in (outputs)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="all settings and numbers, for a spreadsheet")
    form.add_argument("--json", action="store_true", help="all settings and numbers, for programs")
    form.add_argument("--latex", action="store_true", help="the table for a paper, with the rules of booktabs")
    return parser


def main(words: list[str]) -> int:
    chosen = parser().parse_intermixed_args(joined(words))
    filters = [read_filter(word) for word in chosen.filters]
    rows = ordered(filtered(load_runs(chosen.root), filters), chosen.sort)
    if chosen.json:
        print(json.dumps(rows, indent=2))
    elif chosen.csv:
        from noderun.report.table import write_rows

        write_rows(rows, sys.stdout)
    elif not rows:
        print(f"no such run under {chosen.root.absolute()}")
    else:
        print_rows(rows, chosen.sort, chosen.latex)
    return 0


def joined(words: list[str]) -> list[str]:
    """``--sort -KEY`` as one word: argparse would take -KEY for a flag."""
    at = words.index("--sort") if "--sort" in words[:-1] else len(words)
    return [*words[:at], *(["=".join(words[at : at + 2])] if at < len(words) else []), *words[at + 2 :]]


def read_filter(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise ConfigError(f"cannot read '{word}'; expected key=value")
    return key, value


def filtered(rows: list[Row], filters: Sequence[tuple[str, str]]) -> list[Row]:
    for said, value in filters:
        key = known_key(rows, said)
        rows = [row for row in rows if same(row.get(key), value)]
    return rows


def same(found: Any, wanted: str) -> bool:
    """Whether a value is the one that was typed: 1e-3 is 0.001."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(wanted) == found
        except ValueError:
            return False
    words = json.dumps(found) if found is None or isinstance(found, bool | list) else str(found)
    return wanted.replace(" ", "") == words.replace(" ", "")


def ordered(rows: list[Row], key: str | None) -> list[Row]:
    """Smallest first, runs without that number last."""
    if key is None:
        return rows
    name = known_key(rows, key.removeprefix("-"))
    have = [row for row in rows if row.get(name) is not None]
    numbers = all(isinstance(row[name], int | float) for row in have)
    have.sort(key=lambda row: row[name] if numbers else str(row[name]), reverse=key.startswith("-"))
    return have + [row for row in rows if row.get(name) is None]


def known_key(rows: list[Row], said: str) -> str:
    """The key that was said, in full or by its last word; ConfigError if no run has it."""
    known = {name for row in rows for name in row}
    ending = sorted(name for name in known if name.endswith(f".{said}"))
    if not rows or said in known:
        return said
    if len(ending) == 1:
        return ending[0]
    instead = f"; did you mean {' or '.join(ending)}?" if ending else did_you_mean(said, known)
    raise ConfigError(f"no run has '{said}'{instead or '; --json shows all that runs have'}")


def print_rows(rows: list[Row], sorted_by: str | None, as_latex: bool) -> None:
    from noderun.report.cells import latex, print_facts, print_table, stdout

    if len(rows) == 1:
        facts = ("digest", *SETTINGS, *numbers(), "status", "error", "date", "folder")
        print_facts([(title(key), text(key, v)) for key in facts if (v := rows[0].get(key)) is not None])
        return
    sort = known_key(rows, sorted_by.removeprefix("-")) if sorted_by else "digest"
    keys = columns(rows, sort)
    texts = {key: [text(key, row.get(key)) for row in rows] for key in keys}
    kept = fitting(texts, sort, PAPER if as_latex else stdout().width)
    cells = [[(cell, False) for cell in line] for line in zip(*(texts[key] for key in kept), strict=True)]
    if as_latex:
        print(latex([title(key) for key in kept], cells))
    else:
        print_table([title(key) for key in kept], cells)
    if len(kept) < len(keys):
        left_out = ", ".join(title(key) for key in keys if key not in kept)
        print(f"{'% ' if as_latex else ''}no room for: {left_out}; --csv has all")


def text(key: str, value: Any) -> str:
    from noderun.report.table import show

    return str(value)[:16] if key == "date" and value else show(key, value)


def title(key: str) -> str:
    """The heading of a column; of a setting that most tables have, the last word of its key."""
    from noderun.report.table import heading

    return key.rpartition(".")[2] if key in SETTINGS else heading(key)


def numbers() -> list[str]:
    from noderun.record.metric import METRICS

    return [name for name in METRICS if name != "epochs"]


def columns(rows: Sequence[Row], sorted_by: str) -> list[str]:
    """What tells these runs apart, in the order of the table: settings, headline numbers, status, date, folder.

    Of settings that only some options have, those that differ where they are.
    """
    from noderun.report.table import headlines, varying

    told = {"digest", "date", "folder", sorted_by, *varying(rows, (*SETTINGS, *headlines(), "status"))}
    others = sorted({key for row in rows for key in row if "." in key} - {*SETTINGS, *NOT_IN_IDENTITY, *SAID_ALREADY})
    told |= {key for key in others if len({repr(v) for row in rows if (v := row.get(key)) is not None}) > 1}
    known = dict.fromkeys(["digest", *SETTINGS, sorted_by, *others, *headlines(), "status", "date", "folder"])
    return [key for key in known if key in told and any(row.get(key) is not None for row in rows)]


def fitting(texts: Mapping[str, Sequence[str]], sorted_by: str, room: int) -> list[str]:
    """The keys whose columns fit beside one another, the most telling ones before the others."""
    from noderun.report.cells import FRAME, least_width
    from noderun.report.table import headlines

    outcome = [key for key in headlines() if key in texts and key != "test_loss"] or ["test_loss"]
    steps = ("tolerance", "solver.dt", "optimizer.lr", "epochs")
    first = ["digest", sorted_by, "model", "data", outcome[0], *steps, "date", "status", "solver", "seed"]
    kept: set[str] = set()
    used = FRAME
    for key in [key for key in dict.fromkeys([*first, *texts]) if key in texts]:
        width = least_width(title(key), texts[key])
        if used + width <= room:
            kept.add(key)
            used += width
    return [key for key in texts if key in kept]
