"""Run folders, read back: one run, or the runs of a sweep or comparison."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from noderun.config.validation import ConfigError, warn_user
from noderun.record import files, ledger, run_folder, run_identity
from noderun.record.metric import know_those_of
from noderun.record.metrics import read_metrics
from noderun.report.table import FORMULA

Read = TypeVar("Read")
STATES = ("running", "done", "failed", "interrupted")
NOT_IN_LABELS = run_identity.NOT_IN_IDENTITY  # words that do not tell one run from another


@dataclass(frozen=True)
class Run:
    """``words`` are the overrides of its command line; ``result`` is empty until the run is done."""

    folder: Path
    status: str
    error: str | None
    identity: Mapping[str, Any]
    result: Mapping[str, Any]
    words: Mapping[str, Any]

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        return checked(path, lambda file: list(read_metrics(file)))

    @cached_property
    def environment(self) -> dict[str, Any]:
        return checked(self.folder / files.ENVIRONMENT, run_folder.read_json)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings by key; of a run of an earlier version those that are not its options' defaults."""
        stored = checked(self.folder / files.ENVIRONMENT, lambda path: dict(self.environment.get("settings", {})))
        return stored | dict(self.identity)

    def row(self) -> dict[str, Any]:
        """One line of results.csv: its words, its choices and what it found."""
        names = {key.removesuffix(".name"): v for key, v in self.identity.items() if key.endswith(".name")}
        said = {key: value for key, value in self.words.items() if key not in NOT_IN_LABELS and key not in names}
        kept = {key: value for key, value in self.identity.items() if not key.endswith(".name")}
        state = {"status": self.status, "reason": self.error}
        return {"run": self.folder.name} | said | names | kept | dict(self.result) | state


def read_run(folder: Path) -> Run:
    """ConfigError if there is no run, or if it is damaged or was written by another version."""
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder.absolute()}")
    if not (folder / "status.json").is_file():
        raise ConfigError(f"{folder.absolute()} holds no run: it has no status.json")
    run_folder.check_plain(folder)
    status = checked(folder / "status.json", run_folder.read_json)
    if status.get("status") not in STATES or not isinstance(status.get("identity"), dict):
        raise ConfigError(f"{folder / 'status.json'} is no status of this version{written_by(folder)}")
    result = checked(folder / "result.json", run_folder.read_json)
    if status["status"] == "done" and not result:
        raise ConfigError(f"{folder.absolute()} is incomplete: it is done, but it has no result.json")
    words = checked(folder / ".hydra" / "overrides.yaml", read_words)
    checked(folder / files.OWN_METRICS, lambda path: know_those_of(path.parent))
    return Run(folder, status["status"], status.get("error"), status["identity"], result, words)


def runs_of(folder: Path) -> list[Run]:
    """The one run of a folder, those of a sweep or comparison in it, or else all runs in it, however deep."""
    if (folder / "status.json").exists() or not folder.is_dir():
        return [read_run(folder)]
    inner = sorted(path.parent for path in folder.glob("*/status.json"))
    found = [read_run(path) for path in inner] or [run for path in ledger.folders(folder) for run in readable(path)]
    if not found:
        raise ConfigError(f"{folder.absolute()} holds no run: neither it nor a folder in it has a status.json")
    return found


def readable(folder: Path) -> list[Run]:
    """The run of a folder; none, which the user is told, if it cannot be read."""
    try:
        return [read_run(folder)]
    except ConfigError as error:
        warn_user(f"left out: {error}")
        return []


def checked(path: Path, read: Callable[[Path], Read]) -> Read:
    """ConfigError if a file exists and cannot be read."""
    import yaml

    try:
        return read(path)
    except ConfigError:
        raise
    except (ValueError, yaml.YAMLError, AttributeError, TypeError, RecursionError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path.absolute()} is damaged{written_by(path.parent)}: {reason}") from None


def read_overrides(path: Path) -> list[str]:
    """The words of Hydra's overrides.yaml, none if there is no file; ValueError if it holds anything else."""
    import yaml

    lines = yaml.safe_load(path.read_text()) if path.is_file() else []
    if not (isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        raise ValueError("it holds no list of words")
    return lines


def read_words(path: Path) -> dict[str, Any]:
    """Hydra's overrides.yaml as key -> value; numbers as numbers."""
    pairs = [line.lstrip("+~").partition("=") for line in read_overrides(path)]
    return {key: as_number(value) for key, _, value in pairs}


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of a table; no rows if the file does not exist, None for an empty cell."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{key: from_cell(value) for key, value in row.items()} for row in csv.DictReader(file)]


def from_cell(text: str | None) -> Any:
    """What table.as_cell wrote: a number or a word, None if it is empty."""
    if not text:
        return None
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else as_number(text)


def as_number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def written_by(folder: Path) -> str:
    """The end of a sentence: which version wrote a folder, as far as that can be told."""
    try:
        version = run_folder.read_json(folder / "environment.json")["versions"]["noderun"]
    except (KeyError, TypeError, ValueError):
        return ""
    return f" (noderun {version} wrote it)"


def told_apart_by(found: Sequence[Run]) -> list[str]:
    """The words of command lines in which runs differ."""
    keys = dict.fromkeys(key for run in found for key in run.words if key not in NOT_IN_LABELS)
    return [key for key in keys if len({repr(run.words.get(key)) for run in found}) > 1]


def settings_apart(found: Sequence[Run]) -> list[str]:
    """All settings in which runs differ, those that their command lines name before others."""
    keys = dict.fromkeys(key for run in found for key in run.identity)
    others = [key for key in keys if len({repr(run.identity.get(key)) for run in found}) > 1]
    return list(dict.fromkeys([*told_apart_by(found), *(key.removesuffix(".name") for key in others)]))


def labels(found: Sequence[Run], apart: Sequence[str] = ("seed",)) -> list[str]:
    """What a legend calls each run: the words in which it differs, its seed and others apart."""
    rows = [run.row() for run in found]
    keys = [key for key in told_apart_by(found) if key not in apart]
    if not keys:
        return [str(row.get("model", run.folder.name)) for row, run in zip(rows, found, strict=True)]
    return [", ".join(word(key, row[key]) for key in keys if row.get(key) is not None) for row in rows]


def word(key: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
