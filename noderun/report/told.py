"""What a page says of runs in words: what they are, the command that made them, their settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noderun.record import files
from noderun.record.run_identity import settings_by_key
from noderun.report.cells import Cell
from noderun.report.folders import Run, checked, read_overrides
from noderun.report.table import show

OF_THE_START = ("data.root", "data.download", "log", "name", "fresh", "tolerance")
OF_THE_OPTION = ("takes", "uses", "packages", "fixed_steps", "stochastic")  # what a model is, which nobody sets
NAMED = 4  # keys in a title
VALUES = 8  # of a setting that differs from run to run


def named(run: Run) -> str:
    """`odenet on digits, dopri5 at 0.001, adjoint`; of a measurement in the lab its name, problem and solver."""
    of = settings_by_key(run.settings)
    if "lab" in of:
        problem, solver = (run.result.get(key) for key in ("problem", "solver"))
        lab = str(of["lab"]).replace("_", " ")
        return ", ".join([f"{lab} of {problem}" if problem else lab, *([str(solver)] if solver else [])])
    words = [f"{of.get('model', run.folder.name)} on {of.get('data', 'no data')}"]
    if of.get("solver"):
        dt, tolerance = (show("", of.get(key)) for key in ("solver.dt", "tolerance"))
        words.append(f"{of['solver']} " + (f"at {tolerance}" if dt == "-" else f"in steps of {dt}"))
    return ", ".join([*words, *([str(of["gradient"])] if of.get("gradient") else [])])


def title(found: Sequence[Run], swept: Sequence[str]) -> str:
    """What several runs are together: what all of them share, and what was varied."""
    models, data = ({settings_by_key(run.settings).get(key) for run in found} for key in ("model", "data"))
    shared = [str(model) for model in models if len(models) == 1] + [f"on {name}" for name in data if len(data) == 1]
    over = f" over {', '.join(swept)}" if 0 < len(swept) <= NAMED else ""
    return f"{' '.join(shared)}{': ' if shared else ''}{len(found)} runs{over}"


def command_of(run: Run) -> str:
    """The command that makes the run, as its folder tells it."""
    words = checked(run.folder / files.HYDRA / "overrides.yaml", read_overrides)
    return shlex.join(["noderun", "integrate" if "lab.name" in run.identity else "train", *words])


def grids_command(folder: Path) -> str:
    """The command that made a grid; empty if the folder does not tell."""
    path = folder / files.COMMAND
    return checked(path, Path.read_text).strip() if path.is_file() else ""


def dates(found: Sequence[Run]) -> str:
    """When the runs were started, the first and the last of them."""
    known = sorted(str(date)[:16] for run in found if (date := run.environment.get("date")))
    return "" if not known else f"started {known[0]}" if known[0] == known[-1] else f"started {known[0]} to {known[-1]}"


def settings_table(found: Sequence[Run]) -> tuple[list[str], list[list[Cell]]]:
    """One line a group: its option and its settings; one that differs from run to run has all its values."""
    groups: dict[str, dict[str, str]] = {}
    for key in dict.fromkeys(key for run in found for key in told(run)):
        group, _, leaf = key.partition(".")
        values = dict.fromkeys(show(key, value) for run in found if (value := told(run).get(key)) is not None)
        if values:
            groups.setdefault(group if leaf else "", {})[leaf or group] = listed(list(values))
    lines = [(group, of.pop("name", ""), of) for group, of in sorted(groups.items())]
    rows = [[group, option, ", ".join(f"{key} {value}" for key, value in of.items())] for group, option, of in lines]
    return ["", "option", "settings"], [[(text, False) for text in row] for row in rows]


def told(run: Run) -> Mapping[str, Any]:
    """The run's settings that mean something to it, by key."""
    of_lab = "lab.name" in run.identity
    unread = [group for group in ("problem", "solver") if of_lab and not run.result.get(group)]

    def meant(key: str) -> bool:
        group, _, leaf = key.partition(".")
        return key not in OF_THE_START and leaf not in OF_THE_OPTION and group not in unread

    return {key: value for key, value in run.settings.items() if meant(key)}


def listed(values: list[str]) -> str:
    more = f" and {len(values) - VALUES} more" if len(values) > VALUES else ""
    return values[0] if len(values) == 1 else f"[{' | '.join(values[:VALUES])}{more}]"
