"""`noderun runs [key=value] [--sort KEY] [--json]`: every run with its headline numbers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from noderun.config.validation import ConfigError, nearest
from noderun.record.run_folder import ledger

CHOICES = ("model", "data", "solver", "gradient", "rtol")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser("noderun runs", description="The ledger: every run with its headline numbers.")
    parser.add_argument("filters", nargs="*", metavar="key=value", help="only runs whose result or choice is so")
    parser.add_argument("--sort", metavar="KEY", help="by this number or word; -KEY the other way round")
    parser.add_argument("--json", action="store_true", help="all numbers, for programs")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="where to look (outputs)")
    chosen = parser.parse_intermixed_args(joined(words))
    rows = list(ledger(chosen.root)) if chosen.root.is_dir() else []
    rows = ordered(filtered(rows, chosen.filters), chosen.sort)
    if chosen.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print_rows(rows)
    else:
        print(f"no such run under {chosen.root.absolute()}")
    return 0


def joined(words: list[str]) -> list[str]:
    """``--sort -KEY`` as one word: argparse would take -KEY for a flag."""
    at = words.index("--sort") if "--sort" in words[:-1] else len(words)
    return [*words[:at], *(["=".join(words[at : at + 2])] if at < len(words) else []), *words[at + 2 :]]


def filtered(rows: list[dict[str, Any]], filters: list[str]) -> list[dict[str, Any]]:
    for word in filters:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"cannot read '{word}'; expected key=value")
        known_key(rows, key)
        rows = [row for row in rows if same(row.get(key), value)]
    return rows


def same(found: Any, wanted: str) -> bool:
    """Whether a value is the one that was typed: 1e-3 is 0.001."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(wanted) == found
        except ValueError:
            return False
    return wanted == ("null" if found is None else str(found))


def ordered(rows: list[dict[str, Any]], key: str | None) -> list[dict[str, Any]]:
    """Smallest first, runs without that number last."""
    if key is None:
        return rows
    name = key.removeprefix("-")
    known_key(rows, name)
    have = [row for row in rows if row.get(name) is not None]
    numbers = all(isinstance(row[name], int | float) for row in have)
    have.sort(key=lambda row: row[name] if numbers else str(row[name]), reverse=key.startswith("-"))
    return have + [row for row in rows if row.get(name) is None]


def known_key(rows: list[dict[str, Any]], key: str) -> None:
    known = {name for row in rows for name in row}
    if rows and key not in known:
        raise ConfigError(f"no run has '{key}'{nearest(key, known)}")


def print_rows(rows: list[dict[str, Any]]) -> None:
    from noderun.report.table import filled_table, heading, headlines, print_table, show

    keys = (*CHOICES, *headlines(), "status", "folder")
    columns = [key for key in keys if any(row.get(key) is not None for row in rows)]
    cells = [[(show(key, row.get(key)), False) for key in columns] for row in rows]
    print_table(filled_table([heading(key) for key in columns], cells))
