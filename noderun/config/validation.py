"""Settings: conversion to their types, ranges, and the sentences that say what is wrong with them."""

from __future__ import annotations

import difflib
import math
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin


class ConfigError(ValueError):
    """What is wrong with a command line or a configuration, in one sentence for its user."""


class Incompatible(ConfigError):
    """Every setting is right, but they cannot work together."""


@dataclass(frozen=True)
class Constraint:
    """A condition on a setting, for ``Annotated``; ``words`` complete the sentence "it must be ..."."""

    holds: Callable[[Any], bool]
    words: str


def warn_user(sentence: str) -> None:
    """Say a sentence to the user on stderr, in one line whatever it repeats; stdout is for results."""
    print(f"noderun: {printable(sentence)}", file=sys.stderr)


def printable(text: str) -> str:
    """One line that cannot steer a terminal: what cannot be printed is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(value: Any) -> str:
    """The value as a quoted string of Hydra's grammar, whatever it contains."""
    # a backslash is literal unless a quote, a reference or the end follows
    text = re.sub(r"(\\*)('|\$\{|\Z)", lambda found: 2 * found[1] + ("\\" + found[2] if found[2] else ""), str(value))
    return f"'{text}'"


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest right one, else all of them."""
    choices = sorted(known)
    return did_you_mean(word, choices) or (f"; there are: {', '.join(choices)}" if choices else "")


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence about an unknown word: the nearest right one, nothing if none is near.

    Case does not count. A choice in a folder, such as chen2018/table1, is also known by its last part.
    """
    forms = {form: choice for choice in sorted(known, reverse=True) for form in forms_of(choice)}
    meant = word.casefold()
    near = sorted(difflib.get_close_matches(meant, sorted(forms), cutoff=cutoff))
    likest = max(near, key=lambda form: difflib.SequenceMatcher(None, form, meant).ratio(), default=None)
    return f"; did you mean '{forms[likest]}'?" if likest else ""


def forms_of(choice: str) -> set[str]:
    return {choice.casefold(), choice.rpartition("/")[2].casefold()}


def as_type(hint: Any, value: Any, key: str) -> Any:
    """The value as the type that ``hint`` says: int, float, str, bool, Literal, tuple, X | None, Annotated, or a class
    that makes it ``from_config``."""
    if get_origin(hint) is not Annotated:
        return _convert(hint, value, key, "")
    base, *metadata = get_args(hint)
    condition = next((each for each in metadata if isinstance(each, Constraint)), None)
    converted = _convert(base, value, key, condition.words if condition else "")
    if condition and not condition.holds(converted):
        raise ConfigError(f"{key} must be {condition.words}, not {show(value)}")
    return converted


def _convert(hint: Any, value: Any, key: str, words: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        if value is None and types.NoneType in arguments:
            return None
        inner = [argument for argument in arguments if argument is not types.NoneType]
        # of several types the last one is a list
        return as_type(inner[-1] if isinstance(value, list | tuple) else inner[0], value, key)
    if origin is Literal:
        if value not in arguments:
            known = list(map(str, arguments))
            meant = did_you_mean(str(value), known, 0.75)
            raise ConfigError(f"{key} must be one of {', '.join(known)}, not {show(value)}{meant}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key} must be a list such as [1,2], not {show(value)}")
        return tuple(as_type(arguments[0], item, key) for item in value)
    if hasattr(hint, "from_config"):
        return hint.from_config(value, key)
    if hint in (Any, types.NoneType):  # a default of null says nothing about the type
        return value
    return _scalar(hint, value, key, words)


def _scalar(hint: type, value: Any, key: str, words: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number and math.isfinite(value):
        return float(value)
    if hint is int and number and math.isfinite(value) and value == int(value):
        return int(value)
    if hint is str and (number or isinstance(value, str)):
        return str(value)
    if hint not in (int, float, str) and isinstance(value, hint):
        return value
    if number and not math.isfinite(value):
        raise ConfigError(f"{key} must be a finite number, not {show(value)}")
    names = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", list: "a list"}
    raise ConfigError(f"{key} must be {words or names.get(hint, hint.__name__)}, not {show(value)}")


def show(value: Any) -> str:
    """A value as its user may have typed it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"'{value}'" if isinstance(value, str) else str(value)


def flat(nested: Mapping[str, Any], stem: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys; an empty mapping has none."""
    keys: dict[str, Any] = {}
    for key, value in nested.items():
        keys |= flat(value, f"{stem}{key}.") if isinstance(value, Mapping) else {f"{stem}{key}": value}
    return keys
