"""`noderun list [GROUP[=OPTION]]`: what can be chosen, and the settings of an option with their reasons."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from noderun.config import config_folder
from noderun.config.validation import ConfigError, nearest
from noderun.config.yaml_files import read_mapping


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser("noderun list", description="Shows what can be chosen.")
    parser.add_argument("what", nargs="*", metavar="GROUP[=OPTION]", help="a group, or an option whose file is shown")
    parser.add_argument("--config-dir", type=Path, help="a folder with your own options")
    chosen = parser.parse_args(words)
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
    return found[option].read_text(errors="replace").rstrip() if equals else overview(group, found)


def groups(folders: list[Path]) -> list[str]:
    names = {
        path.name for folder in folders for path in folder.iterdir() if path.is_dir() and any(path.glob("**/*.yaml"))
    }
    return sorted(names - {"hydra"})


def options(group: str, folders: list[Path]) -> dict[str, Path]:
    """Option -> its file; the first folder that has it counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / group).rglob("*.yaml")):
            found.setdefault(str(path.relative_to(folder / group).with_suffix("")), path)
    return dict(sorted(found.items()))


def overview(group: str, found: dict[str, Path]) -> str:
    """A line an option: its name, what it takes or is, and its file's first comment."""
    facts = {"solver": solver_facts, "data": data_facts}.get(group, dict)()
    width = max(map(len, found))
    lines = [f"  {name:<{width}}  {fact(path, facts)}{comment(path)}" for name, path in found.items()]
    return "\n".join([group, *lines])


def comment(path: Path) -> str:
    """The first sentence of the file's comment."""
    rows = [row.lstrip("# ") for row in path.read_text().splitlines() if row.startswith("# ") and "@package" not in row]
    return re.split(r"(?<!et al)\. ", " ".join(rows))[0].rstrip(".")


def fact(path: Path, facts: dict[str, str]) -> str:
    content = read_mapping(path)
    if isinstance(content.get("takes"), list):
        return f"takes {', '.join(map(str, content['takes']))}; "
    return facts.get(str(content.get("name")), "")


def data_facts() -> dict[str, str]:
    """What a sample is, from the data sets themselves."""
    from noderun.data import SETS

    return {name: f"{source.sample}; " for name, source in SETS.items()}


def solver_facts() -> dict[str, str]:
    """Orders and abilities, from the solvers themselves."""
    from noderun.ode.solvers import SOLVERS

    abilities = ("adaptive", "implicit", "reversible", "symplectic")
    return {
        name: ", ".join([f"order {info.order or 'variable'}", *(a for a in abilities if getattr(info, a))]) + "; "
        for name, info in SOLVERS.items()
    }
