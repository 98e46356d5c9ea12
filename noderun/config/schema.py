"""The typed settings of a run: the place where Hydra's DictConfig stops.

One frozen dataclass per config group. The keys that only some options of a group have are declared by the option
(``config.options``) and arrive in ``options``: the keyword arguments of what is built. A key of a user's own has the
type of its default in the YAML file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_type_hints

from noderun.config.options import (
    OPTIONS,
    Data,
    Dynamics,
    Gradient,
    Model,
    Objective,
    Optimizer,
    Option,
    Regularizer,
    Scheduler,
    Solver,
    Trainer,
)
from noderun.config.options.option import facts_of
from noderun.config.options.types import Device, FigureFormat, FolderName, Seed, Task, Tolerance
from noderun.config.validation import ConfigError, as_type, show

__all__ = ["GROUPS", "Data", "Dynamics", "Gradient", "Model", "Objective", "Optimizer", "Regularizer", "Scheduler"]
__all__ += ["Settings", "Solver", "Trainer"]
Tolerant = TypeVar("Tolerant", Solver, Gradient)


@dataclass(frozen=True)
class Settings:
    """Everything that `noderun train` was told."""

    data: Data
    model: Model
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
    dynamics: Dynamics | None = None  # None: the model does not use it
    solver: Solver | None = None
    gradient: Gradient | None = None
    regularizer: Regularizer | None = None
    seed: Seed = 0
    device: Device = "auto"
    deterministic: bool = False
    log: Literal["live", "plain", "quiet"] = "live"
    name: FolderName | None = None
    figure_format: FigureFormat = "png"
    init_from: str | None = None  # the folder of a run whose weights training starts from
    fresh: bool = False


GROUPS: dict[str, type[Option]] = {
    "trainer": Trainer,
    "data": Data,
    "model": Model,
    "dynamics": Dynamics,
    "solver": Solver,
    "gradient": Gradient,
    "regularizer": Regularizer,
    "optimizer": Optimizer,
    "scheduler": Scheduler,
}
OWN_PARTS = tuple(name for name, cls in GROUPS.items() if "user_class" in cls.__dataclass_fields__)  # by class:
REFERRED_TO: dict[str, Any] = {"tolerance": Tolerance, "task": Task | None}  # keys that only other settings read
OPTIONAL = ("dynamics", "solver", "gradient", "regularizer")  # ignored, and None, if the model does not use them


def typed(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
    """Type a resolved configuration; ``defaults`` is that of the same options with all settings at their defaults.

    Raises ConfigError if a value has the wrong type or range.
    """
    hints = get_type_hints(Settings, include_extras=True)
    # what others refer to comes first, so that a wrong value is blamed on the key that was given
    for key, hint in REFERRED_TO.items():
        if key in config:
            as_type(hint, config[key], key)
    shared = {key: as_type(hints[key], config[key], key) for key in hints if key not in GROUPS and key in config}
    nodes: dict[str, Any] = {name: typed_group(name, config.get(name), defaults.get(name) or {}) for name in GROUPS}
    unused = {name for name in OPTIONAL if name not in nodes["model"].uses}
    for name, node in nodes.items():
        if node is None and name not in unused:
            raise ConfigError(f"{name}=null: model={nodes['model'].name} needs a {name}")
    if nodes["solver"] and nodes["solver"].dt is not None:
        for name in ("solver", "gradient"):
            nodes[name] = nodes[name] and without_tolerances(nodes[name])
    groups: dict[str, Any] = {name: None if name in unused else node for name, node in nodes.items()}
    return Settings(**shared, **groups)


def without_tolerances(choice: Tolerant) -> Tolerant:
    """A solver or gradient for fixed steps: what nothing reads must not tell two runs apart."""
    return replace(choice, rtol=None, atol=None)


def typed_group(name: str, node: Any, default: Mapping[str, Any], cls: type[Option] | None = None) -> Any:
    """The dataclass of one config group, of its ``cls`` if that is not the usual one; None if none was chosen."""
    if node is None and name != "model":
        return None
    if not isinstance(node, Mapping):
        raise ConfigError(f"{name} must be one of its options, not {show(node)}")
    cls = cls or GROUPS[name]
    shared = {f.name: f.type for f in fields(cls) if f.name not in ("options", "user_class")}
    declared = declared_option(name, node)
    own = {f.name: f.type for f in fields(declared)}
    facts = {key: value for key, value in facts_of(declared).items() if key != "name"}
    values: dict[str, Any] = {key: value for key, value in facts.items() if key in shared}
    options = {}
    for key, value in node.items():
        if key == "class" and name in OWN_PARTS:
            values["user_class"] = as_type(str, value, f"{name}.class")
        elif key in shared:
            values[key] = as_type(shared[key], value, f"{name}.{key}")
        else:
            options[key] = as_type(own.get(key, type(default.get(key))), value, f"{name}.{key}")
    if options and "options" not in cls.__dataclass_fields__:
        raise ConfigError(f"no setting '{name}.{next(iter(options))}'")
    if "name" in shared and "name" not in values:
        raise ConfigError(f"{name}.name is missing in the file of that option")
    return cls(**values, **({"options": options} if options else {}))


def declared_option(group: str, node: Mapping[str, Any]) -> type[Option]:
    """What declares the keys of a node: the option that it names, or the whole group for a class of the user's."""
    name = node.get("name", "default")
    declared = OPTIONS[group].get(name) if isinstance(name, str) and "class" not in node else None
    return declared or GROUPS[group]
