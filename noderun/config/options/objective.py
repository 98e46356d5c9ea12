"""What a model is trained for: a name, or a class of the user's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from noderun.config.validation import ConfigError, as_type

Name = Literal[
    "classify",
    "regress",
    "sign",
    "density",
    "flow_matching",
    "density_matching",
    "elbo",
    "series",
    "trajectory",
    "derivative",
    "sde_matching",
    "rollout",
    "energy",
]


@dataclass(frozen=True)
class Objective:
    """What a model is trained for; one of the user's own has a class, whose keyword arguments are ``options``."""

    WORDS: ClassVar = f"one of {', '.join(get_args(Name))}, or a mapping with class: module:Name and its arguments"

    name: str = "classify"
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None

    @classmethod
    def from_config(cls, value: Any, key: str) -> "Objective":
        """From what a configuration holds under ``key``; ConfigError if that is neither a name nor has a class."""
        if not isinstance(value, Mapping):
            return cls(as_type(Name, value, key))
        if "class" not in value:
            raise ConfigError(f"{key} must be {cls.WORDS}")
        options = {str(name): argument for name, argument in value.items() if name != "class"}
        reference = as_type(str, value["class"], f"{key}.class")
        return cls(reference.rpartition(":")[2], options, reference)
