"""What `noderun TASK --help` prints: the task, its groups with their options, and its settings with their reasons."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from noderun.cli.main import TASKS
from noderun.config.compose import Composer
from noderun.config.composed import plain
from noderun.config.options.option import commented, settings_of
from noderun.config.schema import GROUPS, declared_option

LINE = re.compile(r"(?P<indent> *)(?:- )?(?P<key>\w+):(?P<rest>.*)")
NEEDED = {"evaluate": " run=FOLDER"}  # task -> the words that it cannot do without
WIDTH = 118


def help_of(composer: Composer, config: DictConfig, resolve: bool) -> str:
    task = composer.task
    needed = NEEDED.get(task, "")
    multirun = "  --multirun, -m             several values, as `noderun sweep` takes them: seed=0,1,2\n"
    flags = multirun if task == "train" else ""
    return (
        f"usage: noderun {task}{needed} [KEY=VALUE | GROUP=OPTION]... [FLAG]...\n\n"
        f"{TASKS[task].text}\n{grid_of(config)}\n"
        f"Groups (GROUP=OPTION chooses one):\n\n{indented(groups_of(composer, config))}\n\n"
        f"Settings (KEY=VALUE changes one; inside a group GROUP.KEY=VALUE):\n\n"
        f"{indented(settings_in(composer, config, resolve))}\n\n"
        f"  noderun list GROUP=OPTION  an option's settings, each with its reason\n{flags}"
        "  --config-dir DIR           your own options and classes beside ours\n"
        "  --cfg job                  the configuration of this command line"
    )


def indented(lines: Iterator[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def grid_of(config: DictConfig) -> str:
    """The values that a task runs over if no word has several."""
    params = config.hydra.sweeper.get("params") or {}
    return "".join(f"If no word has several values: {key}={values}\n" for key, values in params.items())


def groups_of(composer: Composer, config: DictConfig) -> Iterator[str]:
    """Each group with its options, and which one is chosen and why."""
    reasons = comments_of(composer.folders, f"{composer.task}.yaml")
    choices, usual = (each.hydra.runtime.choices for each in (config, composer.compose([])))
    for group in sorted(composer.groups() - {"hydra"}):
        text = f"{group}: {', '.join(composer.options(group))}"
        yield from textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        chosen, why = choices.get(group), reasons.get(group) if choices.get(group) == usual.get(group) else None
        yield from wrapped(f"    chosen: {chosen or 'null'}{f'; {why}' if why else ''}")


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def settings_in(composer: Composer, config: DictConfig, resolve: bool) -> Iterator[str]:
    """The settings of a configuration, those outside of groups first."""
    nodes = {str(key): plain(config, str(key), resolve) for key in config if key != "hydra"}
    reasons = comments_of(composer.folders, f"{composer.task}.yaml")
    yield from commented({key: value for key, value in nodes.items() if not isinstance(value, dict)}, reasons)
    for group, content in nodes.items():
        if isinstance(content, dict):
            yield f"{group}:"
            yield from (f"  {line}" for line in commented(content, reasons_in(composer, config, group, content)))


def reasons_in(composer: Composer, config: DictConfig, group: str, content: dict[str, Any]) -> dict[str, str]:
    """Key -> its comment, of the settings of a group: as the chosen option declares it, or as a file says it."""
    declared = settings_of(declared_option(group, content)) if group in GROUPS else []
    of_file = comments_of(composer.folders, f"{group}/{config.hydra.runtime.choices.get(group)}.yaml")
    of_task = comments_of(composer.folders, f"{composer.task}.yaml")
    inside = {key.partition(".")[2]: text for key, text in of_task.items() if key.startswith(f"{group}.")}
    return {each.key: each.comment for each in declared} | of_file | inside


def comments_of(folders: Sequence[str | Path], name: str) -> dict[str, str]:
    """Dotted key -> the comment behind it in the first file of this name, or in that of the task it starts from."""
    path = next((Path(folder, name) for folder in folders if Path(folder, name).is_file()), None)
    found: dict[str, str] = {}
    stem: list[tuple[int, str]] = []
    key = ""
    for line in path.read_text("utf-8").splitlines() if path else ():
        if line.strip() == "- train":
            found |= comments_of(folders, "train.yaml")
        if match := LINE.match(line):
            indent = len(match["indent"])
            stem = [(depth, name) for depth, name in stem if depth < indent and name != "defaults"]
            key = ".".join([*(name for _, name in stem), match["key"]])
            stem.append((indent, match["key"]))
            comment = match["rest"].partition("#")[2].strip()
        elif line.strip().startswith("#") and line.startswith(" ") and key in found:
            comment = f"{found[key]} {line.strip(' #')}"
        else:
            key = comment = ""
        if comment:
            found[key] = comment
    return found
