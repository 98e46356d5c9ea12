"""Sentences about keys that no chosen option has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from noderun.config.validation import ConfigError

SYNONYMS = {  # what a setting is often called -> its name here
    "adjoint": "gradient",
    "batch": "batch_size",
    "bs": "batch_size",
    "learning_rate": "lr",
    "method": "solver",
    "tol": "tolerance",
    "wd": "weight_decay",
}


class UnknownKey(ConfigError):
    """A key that no chosen option has; ``owners`` are options of its group that have it."""

    def __init__(self, key: str, known: Iterable[str], owners: Sequence[str]) -> None:
        group, few = key.partition(".")[0], ", ".join(owners[:3])
        others = f"{len(owners) - 3} other{'s' if len(owners) > 4 else ''}"
        more = f" and {others} have" if len(owners) > 3 else " has" if len(owners) == 1 else " have"
        where = f" with this {group}; {group}={few}{more} it" if owners else nearest_key(key, known)
        super().__init__(f"no setting '{key}'{where}")
        self.key = key


class FactGiven(ConfigError):
    """A key that says what an option is, as a model's ``uses`` does."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} says what that option is and cannot be set; choose another {key.partition('.')[0]}")


def nearest_key(key: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown key: the nearest by the whole key, or by its last part, else all of its
    group."""
    choices = sorted(known)
    stem, dot, leaf = key.casefold().rpartition(".")
    leaf = SYNONYMS.get(leaf, leaf)

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, stem + dot + leaf, candidate).ratio()
        return whole + difflib.SequenceMatcher(None, leaf, candidate.rpartition(".")[2]).ratio()

    best = max(choices, key=likeness, default=None)
    if best and likeness(best) > 1.1:
        return f"; did you mean '{best}'?"
    group = key.partition(".")[0]
    inside = [choice.removeprefix(f"{group}.") for choice in choices if choice.startswith(f"{group}.")]
    of_group = [choice for choice in inside if choice not in ("name", "class")]
    return f"; {group} has {', '.join(of_group)}" if of_group else ""
