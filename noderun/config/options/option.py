"""What an option is: a frozen dataclass whose fields are its settings, with type, range, default and words.

``Annotated[type, Constraint, "words"]`` is the pattern of a field. The modules of this package evaluate their
annotations (no ``from __future__ import annotations``), so that reading a field costs nothing.
"""

import textwrap
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from noderun.config.validation import Constraint

FACT = object()  # marks a field that says what an option is: nobody can set it, and no configuration holds it
OPTIONS: dict[str, dict[str, type["Option"]]] = {}  # group -> name -> the option


@dataclass(frozen=True)
class Reference:
    """A default as a YAML file says it: one that follows another setting, or that stands for an object."""

    text: str


@dataclass(frozen=True)
class Option:
    """One choice of a config group: ``class Odenet(Model, name="odenet")`` adds it to ``OPTIONS["model"]``.

    ``chooses`` are options of other groups that become the default with this one; the command line still wins.
    """

    group: ClassVar[str]
    chooses: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, group: str | None = None, name: str | None = None) -> None:
        super().__init_subclass__()
        if group is not None:
            cls.group = group
            OPTIONS[group] = {}
        if name is not None:
            OPTIONS[cls.group][name] = cls


# for options, which are read and never made: a dataclass's methods would double the import time of this package
declaration = dataclass(frozen=True, init=False, repr=False, eq=False)


@dataclass(frozen=True)
class Setting:
    """One key of an option; ``default`` is what a YAML file would say, a reference included."""

    key: str
    hint: Any
    default: Any
    words: str

    @property
    def comment(self) -> str:
        """What the value means and, in brackets, which values there are."""
        return f"{self.words} [{type_words(self.hint)}]".lstrip()


def settings_of(option: type[Option]) -> list[Setting]:
    """The keys that a configuration of this option holds beside ``name`` and ``class``."""
    return [setting(f) for f in fields(option) if f.name not in ("name", "options", "user_class") and not is_fact(f)]


def setting(field: Field[Any]) -> Setting:
    metadata = get_args(field.type)[1:] if get_origin(field.type) is Annotated else ()
    reference = next((each.text for each in metadata if isinstance(each, Reference)), None)
    assert reference or field.default is not MISSING, f"{field.name} has no default"
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    words = [each for each in metadata if isinstance(each, str)]
    return Setting(field.name, field.type, reference or default, words[-1] if words else "")


def is_fact(field: Field[Any]) -> bool:
    return FACT in get_args(field.type)


def facts_of(option: type[Option]) -> dict[str, Any]:
    """What the option is, by key: a model's ``uses``, for instance."""
    return {f.name: f.default for f in fields(option) if is_fact(f)}


def summary(option: type[Option]) -> str:
    """The option's docstring in one line."""
    return " ".join((option.__doc__ or "").split())


def node(option: type[Option], name: str) -> dict[str, Any]:
    """The option as a YAML file of its group would say it."""
    chosen = [{f"override /{group}@_global_.{group}": other} for group, other in option.chooses.items()]
    named = {"name": name} if any(f.name == "name" for f in fields(option)) else {}
    return ({"defaults": chosen} if chosen else {}) | named | {each.key: each.default for each in settings_of(option)}


def commented(values: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    """A line ``key: value  # comment`` for each value, as YAML; the comments stand in one column."""
    texts = {key: f"{key}: {as_yaml(value)}" for key, value in values.items()}
    column = 2 + max((len(text) for key, text in texts.items() if key in comments), default=0)
    lines = []
    for key, text in texts.items():
        comment = textwrap.wrap(comments[key], 118 - column) if key in comments else []
        lines.append(f"{text:<{column}}# {comment[0]}" if comment else text)
        lines += [f"{'':<{column}}# {more}" for more in comment[1:]]
    return lines


def as_yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").rstrip()


def type_words(hint: Any) -> str:
    """The values that a type allows, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        condition = next((each.words for each in arguments[1:] if isinstance(each, Constraint)), None)
        return condition or type_words(arguments[0])
    if origin in (types.UnionType, Union):
        return ", or ".join("null" if each is type(None) else type_words(each) for each in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a list, each {type_words(arguments[0])}"
    if hasattr(hint, "WORDS"):
        return str(hint.WORDS)
    return {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}[hint]
