"""The suite startup: what a user waits for before anything happens, as whole processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from noderun.benchmarks.case import Case

LINES = {
    "noderun --help": ["-m", "noderun.cli", "--help"],
    "noderun train --help": ["-m", "noderun.cli", "train", "--help"],
    "import noderun; noderun.solve": ["-c", "import noderun; noderun.solve"],
}


def startup_cases(quick: bool) -> Iterator[Case]:
    contenders = {"python": process(["-c", "pass"]), **{name: process(words) for name, words in LINES.items()}}
    yield Case("startup", "whole processes", contenders, dict, 0.0)


def process(words: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)
