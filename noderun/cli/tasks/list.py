"""`noderun list [GROUP[=OPTION]]`: what can be chosen, and an option's settings with types, defaults and reasons."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from noderun.config import config_folder
from noderun.config.options import OPTIONS, Option
from noderun.config.options.option import commented, facts_of, node, settings_of, summary
from noderun.config.validation import ConfigError, nearest
from noderun.config.yaml_files import read_mapping

if TYPE_CHECKING:
    from noderun.data import Source


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("noderun list", description="Shows what can be chosen.")
    parser.add_argument("what", nargs="*", metavar="GROUP[=OPTION]", help="a group, or an option whose file is shown")
    parser.add_argument("--config-dir", type=Path, help="a folder with your own options")
    return parser


def main(words: list[str]) -> int:
    chosen = parser().parse_args(words)
    if chosen.config_dir and not chosen.config_dir.is_dir():
        raise ConfigError(f"--config-dir: no folder {chosen.config_dir.absolute()}")
    folders = [folder for folder in (chosen.config_dir, config_folder()) if folder]
    print("\n\n".join(answer(what, folders) for what in chosen.what or groups(folders)))
    return 0


def answer(what: str, folders: list[Path]) -> str:
    group, equals, option = what.partition("=")
    if group not in groups(folders):
        raise ConfigError(f"no group '{group}'{nearest(group, groups(folders))}")
    found = options(group, folders)
    if equals and option not in found:
        raise ConfigError(f"no {group} '{option}'{nearest(option, found)}")
    return text(option, found[option]) if equals else overview(group, found)


def groups(folders: list[Path]) -> list[str]:
    names = {
        path.name for folder in folders for path in folder.iterdir() if path.is_dir() and any(path.glob("**/*.yaml"))
    }
    return sorted((names | set(OPTIONS)) - {"hydra"})


def options(group: str, folders: list[Path]) -> dict[str, Path | type[Option]]:
    """Option -> its file, or what declares it; the first folder that has it counts, and files before declarations."""
    found: dict[str, Path | type[Option]] = {}
    for folder in folders:
        for path in sorted((folder / group).rglob("*.yaml")):
            found.setdefault(str(path.relative_to(folder / group).with_suffix("")), path)
    return dict(sorted((OPTIONS.get(group, {}) | found).items()))


def text(name: str, option: Path | type[Option]) -> str:
    """An option as a YAML file with a comment for each of its settings."""
    if isinstance(option, Path):
        return option.read_text(errors="replace").rstrip()
    comments = {each.key: each.comment for each in settings_of(option)}
    head = textwrap.wrap(summary(option), 118, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([*head, *commented(node(option, name), comments)])


def overview(group: str, found: dict[str, Path | type[Option]]) -> str:
    """One line per option: its name, what it takes or is, and the first sentence about it."""
    facts = {"solver": solver_facts, "data": data_facts}.get(group, dict)()
    width = max(map(len, found))
    lines = [f"  {name:<{width}}  {fact(option, facts.get(name))}{sentence(option)}" for name, option in found.items()]
    return "\n".join([group, *lines])


def sentence(option: Path | type[Option]) -> str:
    """The first sentence about an option."""
    if isinstance(option, Path):
        rows = [row for row in option.read_text().splitlines() if row.startswith("# ") and "@package" not in row]
        about = " ".join(row.lstrip("# ") for row in rows)
    else:
        about = summary(option)
    return re.split(r"(?<!et al)\. ", about)[0].rstrip(".")


def fact(option: Path | type[Option], of_code: str | None) -> str:
    """What an option takes, or what its code says of it, if that tells options of its group apart."""
    content = read_mapping(option) if isinstance(option, Path) else facts_of(option)
    if isinstance(content.get("takes"), list | tuple):
        return f"takes {', '.join(map(str, content['takes']))}; "
    return of_code or ""


def data_facts() -> dict[str, str]:
    """What a sample is and what can be learned, from the data sets themselves."""
    from noderun.data import SETS

    def told(source: Source) -> str:
        targets = ", ".join(source.tasks or [target.__name__.lower() for target in source.readers])
        return f"{source.sample} for {targets}{', with a validation split' if source.validated else ''}; "

    return {name: told(source) for name, source in SETS.items()}


def solver_facts() -> dict[str, str]:
    """Orders and abilities, from the solvers themselves."""
    from noderun.ode.solvers import SOLVERS
    from noderun.sde import SOLVERS as SDE_SOLVERS

    abilities = ("adaptive", "implicit", "reversible", "symplectic")
    return dict.fromkeys(SDE_SOLVERS, "of stochastic equations only; ") | {
        name: ", ".join([f"order {info.order or 'variable'}", *(a for a in abilities if getattr(info, a))]) + "; "
        for name, info in SOLVERS.items()
    }
