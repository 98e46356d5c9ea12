"""`noderun data fetch|check NAME... [data.root=PATH]`."""

from __future__ import annotations

import argparse

from noderun.config.validation import ConfigError


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("noderun data", description="Fetches data sets, or verifies those that are there.")
    parser.add_argument("action", choices=["fetch", "check"])
    parser.add_argument("names", nargs="+", metavar="NAME", help="noderun list data shows them")
    return parser


def main(words: list[str]) -> int:
    chosen = parser().parse_args([word for word in words if "=" not in word])
    root = root_of(words)
    from noderun.data import DataError, check, fetch

    try:
        for name in chosen.names:
            print((fetch if chosen.action == "fetch" else check)(name, root))
    except DataError as error:
        raise ConfigError(str(error)) from None
    return 0


def root_of(words: list[str]) -> str:
    """The folder that ``data.root=`` names."""
    root = "data"
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key != "data.root":
            raise ConfigError(f"no setting '{key}' here; did you mean 'data.root'?")
        root = value if equals else root
    return root
