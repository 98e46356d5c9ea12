"""The ledger: every run under a folder as a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from noderun.config.validation import ConfigError
from noderun.record import files
from noderun.record.index import Index
from noderun.record.metric import know_those_of
from noderun.record.run_folder import check_plain, read_json
from noderun.record.run_identity import digest, settings_by_key


def ledger(root: Path) -> Iterator[dict[str, Any]]:
    """One row per run under a folder: its folder, its state, and its result if it has one."""
    index = Index(root, ledger_row, __file__)
    for folder in folders(root):
        try:
            yield index.row(folder)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OSError):
            yield {"status": "damaged", "error": "its files cannot be read", "folder": str(folder)}
    index.save()


def load_runs(root: str | Path = "outputs") -> list[dict[str, Any]]:
    """Every run under a folder as a row: its settings by key (``optimizer.lr``), result, status, date and folder.

    The rows of ``noderun runs --json``; ``pandas.DataFrame(rows)`` makes a table of them. Raises ConfigError if there
    is no such folder.
    """
    if not Path(root).is_dir():
        raise ConfigError(f"no folder {Path(root).absolute()}, in which runs could be; root says where to look")
    return list(ledger(Path(root)))


def folders(root: Path) -> list[Path]:
    """The folders of all runs under a folder, however deep; measurements of a run are no runs."""
    found = (path.parent for path in sorted(root.rglob(files.STATUS)))
    return [folder for folder in found if folder.parent.name != files.EVALUATE]


def ledger_row(folder: Path) -> dict[str, Any]:
    check_plain(folder)
    status, start = read_json(folder / files.STATUS), read_json(folder / files.ENVIRONMENT)
    know_those_of(folder)
    known = status["identity"]
    place = {"status": status["status"], "error": status["error"], "date": start.get("date"), "folder": str(folder)}
    settings = settings_by_key(start.get("settings", {}) | known)
    return {"digest": digest(known)} | settings | read_json(folder / files.RESULT) | place
