"""`noderun rerun run=FOLDER`: says what differs from the time of a run, repeats it, and compares the two."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from noderun.config.validation import ConfigError, flat, quoted
from noderun.record import files, run_folder
from noderun.report.folders import Run, checked, read_overrides, read_run

DIFFERENT = 1
MEASURED = ("time/", "memory/")  # tags of what no two runs share
OF_THE_RUN = re.compile(r"(identity|settings)\.|date$")  # in environment.json, beside the environment
NOT_AGAIN = re.compile(r"[+~]*(hydra[./]|fresh=|name=)")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "noderun rerun", description="Repeat a training run and compare every row; 0 if they are identical, else 1."
    )
    parser.add_argument("run", metavar="run=FOLDER", help="the folder of a training run")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="your own options, if the run has code of yours")
    return parser


def main(words: list[str]) -> int:
    chosen = parser().parse_args(words)
    before = read_run(Path(chosen.run.removeprefix("run=")).absolute())
    again = words_of(before.folder)
    say_differences("environment", environment_of(before), run_folder.environment("", 0))
    folder = Path("outputs", "rerun", before.folder.name).absolute()
    status = repeat(again, folder, chosen.config_dir)
    if status == 0:
        after = read_run(folder)
        say_differences("settings", before.identity, after.identity)
        status = compared(before, after)
    return status


def words_of(folder: Path) -> list[str]:
    """The words of a run's command line; ConfigError if one would look something up on this machine."""
    lines = checked(folder / files.HYDRA / "overrides.yaml", read_overrides)
    words = [line for line in lines if not NOT_AGAIN.match(line)]
    if strange := next((word for word in words if "${" in word), None):
        raise ConfigError(f"{folder} was made with {strange}, which is not looked up for a folder: repeat it by hand")
    return words


def environment_of(run: Run) -> dict[str, Any]:
    return checked(run.folder / files.ENVIRONMENT, run_folder.read_json)


def say_differences(of: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Print each value that is another one now; those of device and seed are the command line's."""
    then, after = flat(before), flat(now)
    keys = sorted({*then, *after} - {"device", "seed"})
    keys = [key for key in keys if not OF_THE_RUN.match(key) and then.get(key) != after.get(key)]
    for key in keys:
        print(f"{of}: {key} was {then.get(key)}, is {after.get(key)}")
    if not keys:
        print(f"{of}: nothing differs")


def repeat(words: Sequence[str], folder: Path, config_dir: Path | None) -> int:
    """Train with these words, from the beginning, in this folder; the exit status."""
    from noderun.cli.main import hydra

    own = ["--config-dir", str(config_dir)] if config_dir else []
    return hydra("train", [*words, *own, "fresh=true", f"hydra.run.dir={quoted(folder)}"])


def compared(before: Run, after: Run) -> int:
    """Say whether all rows of metrics.jsonl are the same, or at which step the first difference is."""
    for then, now in zip_longest(map(learned, before.metrics), map(learned, after.metrics)):
        if then != now:
            step = (then or now or {}).get("step")
            keys = sorted(key for key in {*(then or {}), *(now or {})} if (then or {}).get(key) != (now or {}).get(key))
            print(f"metrics: they differ from step {step} on, first in {', '.join(keys)}")
            return DIFFERENT
    print(f"metrics: all {len(before.metrics)} rows are identical")
    return 0


def learned(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith(MEASURED)}
