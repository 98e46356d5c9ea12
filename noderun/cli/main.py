"""``noderun TASK [group=option] [key=value] [flags]``: finds the task and says in a line what is wrong."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """kind: ``hydra`` (a config file and a function of its name), ``multirun`` (the same over a grid) or ``plain``."""

    kind: str
    text: str


TASKS = {
    "train": Task("hydra", "train one model"),
    "sweep": Task("multirun", "train over a grid, then one table: noderun sweep tolerance=1e-1,1e-3 seed=0,1"),
    "compare": Task("multirun", "several models on one budget, side by side: noderun compare model=resnet,odenet"),
    "integrate": Task("hydra", "a classical problem or a lab: noderun integrate problem=kepler solver=dop853"),
    "evaluate": Task("multirun", "a finished run under other solvers: noderun evaluate run=FOLDER solver=euler,dopri5"),
    "bench": Task("hydra", "the same work by torchdiffeq, torchode and diffrax: noderun bench suite=solve"),
    "rerun": Task("plain", "what differs since a run, then the run again: noderun rerun run=FOLDER"),
    "list": Task("plain", "what can be chosen: noderun list model, noderun list model=odenet"),
    "runs": Task("plain", "the ledger of all runs: noderun runs model=odenet --sort -test_error"),
    "report": Task("plain", "figures and one page of runs, sweeps, comparisons: noderun report FOLDER..."),
    "sample": Task("plain", "draw from a generative run: noderun sample FOLDER n=1000 seed=0"),
    "data": Task("plain", "fetch or verify data: noderun data fetch mnist"),
    "doctor": Task("plain", "what this machine offers and what is missing"),
}
NOTHING, ANYTHING = (), None
CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# Hydra's flags that keep their meaning here -> the words that can follow, the usual one first
FLAGS: dict[str, tuple[str, ...] | None] = {
    "--help": NOTHING,
    "-h": NOTHING,
    "--hydra-help": NOTHING,
    "--cfg": CFG,
    "-c": CFG,
    "--resolve": NOTHING,
    "--package": ANYTHING,
    "-p": ANYTHING,
    "--info": INFO,
    "-i": INFO,
    "--multirun": NOTHING,
    "-m": NOTHING,
    "--config-dir": ANYTHING,
    "-cd": ANYTHING,
    "--trust": NOTHING,
}
SHORT = {"-h": "--help", "-c": "--cfg", "-p": "--package", "-i": "--info", "-m": "--multirun", "-cd": "--config-dir"}
SHOWS = ("--help", "--hydra-help", "--cfg", "--info")
OF_SHOWING = {"--resolve": ("--cfg", "--help"), "--package": ("--cfg",)}
LOUDNESS = ("-v", "--verbose", "-q", "--quiet")  # flags of other programs; here it is a setting
COMPLETION = ("-sc", "--shell-completion")
OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130  # exit statuses


@dataclass
class Words:
    """A parsed command line; flags and overrides may come in any order."""

    overrides: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)  # for Hydra: they show something and start nothing
    config_dir: Path | None = None
    multirun: bool = False
    trust: bool = False  # code that a run's folder names may run


class UsageError(Exception):
    """One sentence about a command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command line, by default of this process, which then ends whatever signals still come."""
    try:
        with stoppable(for_good=arguments is None) as stopped:
            try:
                with among_ranks() as first:
                    status = answer(sys.argv[1:] if arguments is None else arguments) if first else OK
            except Exception:  # what a library made of a signal
                if not stopped:
                    raise
    except KeyboardInterrupt:  # also of a signal between the last line and the end of hearing them
        return INTERRUPTED
    return INTERRUPTED if stopped else status


@contextmanager
def stoppable(for_good: bool) -> Iterator[list[int]]:
    """Each signal that asks a process to stop raises KeyboardInterrupt, as Ctrl-C does, and is kept in the list.

    Afterwards they are ignored ``for_good``, or are what they were.
    """
    from noderun.training.interrupts import STOPPING

    stopped: list[int] = []
    over = False

    def stop(number: int, frame: object) -> None:
        if not over:
            stopped.append(number)
            raise KeyboardInterrupt(number)

    main_thread = threading.current_thread() is threading.main_thread()  # Python sets handlers nowhere else
    heard = [s for s in STOPPING if main_thread and signal.getsignal(s) is not signal.SIG_IGN]  # as nohup sets SIGHUP
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stopped
    finally:
        over = True  # or a signal that comes now would leave the others heard
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if for_good else handler)


@contextmanager
def among_ranks() -> Iterator[bool]:
    """Whether this process is rank 0, which answers; another one that torchrun has started serves it instead."""
    from noderun.config.startup import rank_of_torchrun

    rank = rank_of_torchrun()
    if rank is None:
        yield True
        return
    from noderun.training.followers import dismiss, follow

    if rank > 0:
        follow()
        yield False
        return
    try:
        yield True
    finally:
        dismiss()


def answer(arguments: Sequence[str]) -> int:
    task, *words = arguments or ["--help"]
    try:
        if task in COMPLETION:
            return complete(words)
        if task in ("-h", "--help"):
            print(usage())
            return OK
        if task in ("--version", "-V"):
            print(f"noderun {importlib.import_module('noderun').__version__}")
            return OK
        if task.startswith("-"):
            raise UsageError(f"a task comes first, not '{task}': --help shows the tasks, --version the version")
        if task not in TASKS:
            from noderun.config.validation import nearest

            raise UsageError(f"no task '{task}'{nearest(task, TASKS)}")
        return plain(task, words) if TASKS[task].kind == "plain" else hydra(task, words)
    except UsageError as error:
        return refuse(str(error))
    except BrokenPipeError:  # `noderun list | head`: the reader has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def usage() -> str:
    width = max(map(len, TASKS)) + 2
    rows = "\n".join(f"  {name:<{width}}{task.text}" for name, task in TASKS.items())
    return (
        "usage: noderun TASK [group=option] [key=value] [flags]\n\n"
        "  noderun train model=odenet solver=dopri5 tolerance=1e-3 gradient=adjoint\n"
        "  noderun train experiment=smoke\n"
        "  noderun compare model=resnet,rknet,odenet,mlp\n\n"
        f"tasks:\n{rows}\n\n"
        '`noderun TASK --help` shows what a task can be told. Completion: eval "$(noderun -sc install=bash)"'
    )


def plain(task: str, words: Sequence[str]) -> int:
    """A task without a configuration: argparse, which exits with 2 by itself."""
    from noderun.config.validation import ConfigError

    try:
        status: int = importlib.import_module(f"noderun.cli.tasks.{task}").main(list(words))
    except ConfigError as error:
        return refuse(str(error))
    except SystemExit as end:
        return int(end.code or OK)
    return status


def hydra(task: str, arguments: Sequence[str]) -> int:
    words = take_apart(task, arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, not to Hydra's own printer
    from noderun.config import config_folder
    from noderun.config.validation import ConfigError

    multirun = TASKS[task].kind == "multirun"
    if words.multirun and task == "train":
        task, multirun = "sweep", True
    try:
        # after the import of Hydra, which takes a third of a second
        launch = importlib.import_module("noderun.cli.launching").launch
        flags = [word for pair in words.flags.items() for word in pair if word]
        status: int = launch(task, words.overrides, flags, config_folder(), words.config_dir, multirun, words.trust)
        return status
    except ConfigError as error:
        return refuse(str(error))


def take_apart(task: str, arguments: Sequence[str]) -> Words:
    words = Words()
    rest = list(arguments)
    while rest:
        said, equals, value = rest.pop(0).partition("=")
        if not said.startswith("-"):
            words.overrides.append(said + equals + value)
            continue
        if said not in FLAGS:
            raise UsageError(f"noderun {task} has no flag '{said}'{meant_by(said, value or next(iter(rest), ''))}")
        value = following(said, value) if equals else argument_of(said, rest)
        flag = SHORT.get(said, said)
        if flag == "--config-dir":
            words.config_dir = existing(value)
        elif flag == "--multirun":
            words.multirun = True
        elif flag == "--trust":
            words.trust = True
        else:
            words.flags[flag] = value
    check_shown(words.flags)
    if words.trust and task != "evaluate":
        raise UsageError(f"--trust is about a run's folder that is evaluated; noderun {task} reads none")
    return words


def meant_by(flag: str, value: str) -> str:
    """The end of a sentence about an unknown flag: the nearest flag, else how a setting is written."""
    from noderun.config.validation import did_you_mean

    if flag in LOUDNESS:
        return ": log=live, plain or quiet says what a run prints, and its run.log has all of it"
    setting = f"{flag.strip('-')}={value or 'VALUE'}"
    return did_you_mean(flag, FLAGS, 0.7) or f"; a setting has no dashes: {setting}"


def argument_of(flag: str, rest: list[str]) -> str:
    """The word that belongs to a flag: the next one unless that is a setting, else the flag's default."""
    known = FLAGS[flag]
    if known == NOTHING:
        return ""
    if rest and not rest[0].startswith("-") and (SHORT.get(flag, flag) == "--config-dir" or "=" not in rest[0]):
        return following(flag, rest.pop(0))
    if known is ANYTHING:
        raise UsageError(f"{flag} needs a word after it")
    return known[0]


def following(flag: str, value: str) -> str:
    """The word given to a flag; UsageError if the flag takes no word or not this one."""
    known = FLAGS[flag]
    if known == NOTHING:
        raise UsageError(f"{flag} takes no word, not '{value}'")
    if known is not ANYTHING and value not in known:
        raise UsageError(f"{flag} shows {', '.join(known[:-1])} or {known[-1]}, not '{value}'")
    return value


def check_shown(flags: Iterable[str]) -> None:
    """UsageError if flags show two things at once, or say only how to show one."""
    shown = [flag for flag in flags if flag in SHOWS]
    if len(shown) > 1:
        raise UsageError(f"{shown[0]} and {shown[1]} each show something: give one of them")
    for flag in flags:
        if flag in OF_SHOWING and not set(shown) & set(OF_SHOWING[flag]):
            raise UsageError(f"{flag} says how --cfg shows a configuration: give --cfg job too")


def existing(folder: str) -> Path:
    if not Path(folder).is_dir():
        raise UsageError(f"--config-dir: no folder {Path(folder).absolute()}")
    return Path(folder).absolute()


def complete(words: Sequence[str]) -> int:
    """Answer the shell's question, or print what installs the completion, which is Hydra's."""
    if words[:1] and words[0].startswith("query="):
        from noderun.cli.completion import offered

        print(*offered(os.environ.get("COMP_LINE", "")), sep="\n")
        return OK
    from noderun.cli.launching import call_hydra
    from noderun.config import config_folder
    from noderun.config.compose import Composer

    call_hydra(Composer("train", [config_folder()]), [COMPLETION[0], *words])
    return OK


def refuse(sentence: str) -> int:
    from noderun.config.validation import warn_user

    warn_user(sentence)
    return WRONG


if __name__ == "__main__":
    importlib.import_module("noderun.__main__")
