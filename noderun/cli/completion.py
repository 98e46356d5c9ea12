"""What the shell offers after TAB: tasks, flags, groups, options, settings, their values and folders.

Read from the declared options and the config files, without Hydra: a TAB must not take half a second.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from noderun.cli.main import FLAGS, TASKS
from noderun.cli.tasks.list import groups, options
from noderun.config import config_folder
from noderun.config.options.option import settings_of
from noderun.config.schema import GROUPS
from noderun.config.yaml_files import read_mapping

FOLDERS = ("run", "root", "dir", "path")  # last parts of the keys whose values are files or folders


def offered(line: str) -> list[str]:
    """Every word that can stand where the line ends, with what is typed of it already."""
    typed = line.split()[1:]
    word = "" if line.endswith(" ") or not typed else typed.pop()
    if not typed:
        return starting(word, TASKS)
    task, *before = typed
    if task not in TASKS or TASKS[task].kind == "plain":
        return of_plain(task, before, word)
    if word.startswith("-"):
        return starting(word, (flag for flag in FLAGS if flag.startswith("--")))
    folders = folders_of(before)
    key, equals, value = word.partition("=")
    if not equals:
        return starting(word, keys(task, before, folders))
    listed, comma, last = value.rpartition(",")
    return [f"{key}={listed}{comma}{each}" for each in starting(last, values(task, key, last, before, folders))]


def starting(word: str, known: Iterable[str]) -> list[str]:
    return sorted(each for each in known if each.startswith(word))


def of_plain(task: str, before: Sequence[str], word: str) -> list[str]:
    """The flags and words of a task without configuration, and their values."""
    actions: list[argparse.Action] = importlib.import_module(f"noderun.cli.tasks.{task}").parser()._actions
    flags = {flag: action for action in actions for flag in action.option_strings}
    taking = [flag for flag, action in flags.items() if action.nargs != 0]
    if before and before[-1] in taking:
        return of_flag(flags[before[-1]], word)
    flag, equals, value = word.partition("=")
    if equals and flag in taking:
        return [f"{flag}={each}" for each in of_flag(flags[flag], value)]
    return starting(word, flags) if word.startswith("-") else of_positional(task, before, word)


def of_flag(action: argparse.Action, typed: str) -> list[str]:
    """The values of a flag: those that it lists, or what its metavar names."""
    if action.metavar == "KEY":
        from noderun.cli.tasks.runs import SETTINGS, numbers

        minus = "-" * typed.startswith("-")  # from the largest down
        return starting(typed, (f"{minus}{key}" for key in (*SETTINGS, *numbers(), "date")))
    if action.metavar == "NAME":
        from noderun.report.figures import names_of

        return starting(typed, names_of("runs"))
    return starting(typed, map(str, action.choices)) if action.choices else paths(typed)


def of_positional(task: str, before: Sequence[str], word: str) -> list[str]:
    """The words of a task without configuration that are no flags."""
    if task == "list":
        return of_groups(word)
    if task == "data":
        return starting(word, [*options("data", [config_folder()]), "data.root="] if before else ("fetch", "check"))
    if task == "rerun":
        return paths(word, "run=") if word.startswith("run=") else starting(word, ["run="])
    if task == "runs":
        return of_filter(word)
    if task == "sample" and before:
        from noderun.cli.tasks.sample import known_keys

        return starting(word, (f"{key}=" for key in known_keys()))
    return paths(word)


def of_filter(word: str) -> list[str]:
    """``KEY=VALUE`` of the ledger."""
    from noderun.cli.tasks.runs import SETTINGS, numbers

    key, equals, value = word.partition("=")
    if not equals:
        return starting(word, (f"{name}=" for name in (*SETTINGS, *numbers(), "status", "digest")))
    known: Iterable[str] = ("done", "failed", "interrupted", "running") if key == "status" else ()
    known = options(key, [config_folder()]) if key in GROUPS else TASKS if key == "task" else known
    return [f"{key}={each}" for each in starting(value, known)]


def of_groups(word: str) -> list[str]:
    """``GROUP`` or ``GROUP=OPTION``."""
    group, equals, option = word.partition("=")
    folders = [config_folder()]
    if not equals:
        return [f"{name}=" for name in starting(word, groups(folders))]
    return [f"{group}={name}" for name in starting(option, options(group, folders))]


def folders_of(words: Sequence[str]) -> list[Path]:
    """Where options are looked up: a folder of the user's that an earlier word names, then ours."""
    own = [Path(after) for flag, after in zip(words, words[1:], strict=False) if flag in ("--config-dir", "-cd")]
    return [*(folder for folder in own if folder.is_dir()), config_folder()]


def task_file(task: str) -> tuple[set[str], set[str]]:
    """The groups and the settings outside of groups that a task's file names, with those that it starts from."""
    content = read_mapping(config_folder() / f"{task}.yaml")
    chosen, keys = set[str](), {key for key in content if key not in ("defaults", "hydra")}
    for entry in content.get("defaults", ()):
        if isinstance(entry, dict):
            chosen |= {str(key) for key in entry} - {"hydra"}
        elif entry != "_self_":
            more = task_file(str(entry))
            chosen, keys = chosen | more[0], keys | more[1]
    return chosen, keys


def keys(task: str, before: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Every ``key=``: groups, settings, and the settings inside the groups."""
    chosen, outside = task_file(task)
    inside = [f"{group}.{key}=" for group in chosen & GROUPS.keys() for key in settings(group, before, folders)]
    return [*(f"{name}=" for name in {*chosen, *outside}), *inside]


def settings(group: str, before: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Key -> type, of the option that an earlier word chooses, or of all options of the group."""
    found = options(group, list(folders))
    said = [word.partition("=")[2] for word in before if word.startswith(f"{group}=")]
    chosen = [found[name] for name in said if name in found] or list(found.values())
    declared = [option for option in chosen if not isinstance(option, Path)] or [GROUPS[group]]
    return {each.key: each.hint for option in declared for each in settings_of(option)}


def values(task: str, key: str, typed: str, before: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """What can follow ``key=``."""
    if key in task_file(task)[0]:
        return list(options(key, list(folders)))
    if key.rpartition(".")[2] in FOLDERS:
        return paths(typed)
    group, _, leaf = key.partition(".")
    return words_of(settings(group, before, folders).get(leaf)) if group in GROUPS else []


def words_of(hint: Any) -> list[str]:
    """The values that a type lists."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(each) for each in get_args(hint)]
    return [word for inner in get_args(hint) for word in words_of(inner)]


def paths(typed: str, stem: str = "") -> list[str]:
    """Files and folders that start as typed, folders with a slash behind them."""
    start = typed.removeprefix(stem)
    folder, _, name = start.rpartition("/")
    there = Path(folder or ("/" if start.startswith("/") else "."))
    found = there.iterdir() if there.is_dir() else ()
    head = f"{stem}{folder}/" if "/" in start else stem
    return sorted(f"{head}{path.name}{'/' * path.is_dir()}" for path in found if path.name.startswith(name))
