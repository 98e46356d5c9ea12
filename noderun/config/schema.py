"""The typed settings of a run: the place where Hydra's DictConfig stops.

One frozen dataclass a config group; its fields are the keys that every option of the group has. The keys that only
some options have are named by the option's YAML file, arrive in ``options`` and get their type and range from
``OPTION_KEYS`` (a key that is not listed there keeps the type of its default in the YAML file).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_type_hints

from noderun.config.validation import ConfigError, Constraint, as_type, show

Count = Annotated[int, Constraint(lambda n: n >= 1, "a whole number from 1")]
Index = Annotated[int, Constraint(lambda n: n >= 0, "a whole number from 0")]
Seed = Annotated[int, Constraint(lambda n: 0 <= n < 2**32, "a whole number from 0 to 2^32 - 1")]
Positive = Annotated[float, Constraint(lambda x: x > 0, "a number above 0")]
NotNegative = Annotated[float, Constraint(lambda x: x >= 0, "a number from 0")]
Fraction = Annotated[float, Constraint(lambda x: 0 <= x < 1, "a number from 0 up to, not including, 1")]
# the state of a training solve is float32: a smaller error per step drowns in its rounding (eps = 1.2e-7)
Tolerance = Annotated[
    float, Constraint(lambda x: x >= 1e-7, "a number from 1e-7 (float32, the dtype, resolves 1.2e-7)")
]
Device = Annotated[
    str,
    Constraint(
        lambda d: d.removeprefix("cuda:").isdigit() or d in ("auto", "cpu", "cuda"), "auto, cpu, cuda or cuda:N"
    ),
]
FolderName = Annotated[
    str, Constraint(lambda n: n not in ("", ".", "..") and not set(n) & set("/\\\0"), "a word that can name a folder")
]

Activation = Literal["identity", "elu", "relu", "sigmoid", "silu", "softplus", "tanh"]

OPTION_KEYS: dict[str, dict[str, Any]] = {
    "model": {
        "stem": Literal["conv", "residual", "linear", "none"],
        "width": Count,
        "blocks": Count,
        "tied": bool,
        "t1": Positive,
        "hidden": Count,
        "augment": Index,
        "head": Literal["pool", "flatten", "none"],
        "step": Positive | None,
        "double_at": tuple[Count, ...],
        "scheme": Literal["verlet", "leapfrog"],
    },
    "dynamics": {
        "hidden": Count,
        "layers": Count,
        "activation": Activation,
        "output": Activation,
        "time": bool,
        "width": Count,
        "levels": Index,
        "heads": Count,
        "patch": Count,
        "positions": bool,
    },
    "solver": {"compile": bool},
    "regularizer": {"order": Count},
    "gradient": {"norm": Literal["full", "seminorm"], "checkpoints": Count | None},
    "optimizer": {"momentum": Fraction, "nesterov": bool, "betas": tuple[Fraction, ...], "eps": Positive},
    "scheduler": {
        "milestones": tuple[Positive, ...],
        "restarts": tuple[Positive, ...],
        "gamma": Positive,
        "floor": Fraction,
        "warmup": Fraction,
        "start": Positive,
        "end": Positive,
    },
}


@dataclass(frozen=True)
class Data:
    """Where batches come from."""

    name: FolderName
    root: str = "data"
    download: bool = True
    limit: Count | None = None  # training examples only
    batch_size: Count = 64
    augment: bool = False  # random crop with padding 4, and flip where a mirror image keeps its class
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@dataclass(frozen=True)
class Objective:
    """What a model is trained for; one of the user's own has a class, whose keyword arguments are ``options``."""

    name: str = "classify"
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@dataclass(frozen=True)
class Model:
    """What is trained; ``uses`` names the config groups that it needs, ``takes`` the sorts of sample."""

    name: FolderName
    objective: Objective = Objective()
    takes: tuple[str, ...] = ("image",)
    uses: tuple[Literal["dynamics", "solver", "gradient", "regularizer"], ...] = ()
    fixed_steps: bool = False  # the model is defined by its steps, so an adaptive solver would be another model
    options: dict[str, Any] = field(default_factory=dict)  # stem, width, blocks, t1, ...: the model's own
    user_class: str | None = None


@dataclass(frozen=True)
class Dynamics:
    """The vector field f(t, y; theta)."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@dataclass(frozen=True)
class Solver:
    """How y' = f(t, y) is integrated; dt None steps adaptively, and only then are there tolerances."""

    name: str
    rtol: Tolerance | None = 1e-3
    atol: Positive | None = 1e-3
    dt: Positive | None = None
    max_steps: Count = 10_000
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@dataclass(frozen=True)
class Gradient:
    """How dL/dtheta passes through the solve; tolerances are None where the solver's are."""

    name: str
    rtol: Tolerance | None = 1e-3
    atol: Positive | None = 1e-3
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Regularizer:
    """A penalty on the field, integrated along the solve and added to the loss with ``weight``."""

    name: str
    weight: NotNegative = 0.0
    options: dict[str, Any] = field(default_factory=dict)  # order: the option's own
    user_class: str | None = None


@dataclass(frozen=True)
class Optimizer:
    name: str
    lr: Positive = 3e-3
    weight_decay: NotNegative = 0.0
    options: dict[str, Any] = field(default_factory=dict)  # momentum, betas, ...


@dataclass(frozen=True)
class Scheduler:
    """The learning rate along training; ``horizon`` (epochs) is where a schedule that has an end ends, else None."""

    name: str
    horizon: Count | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trainer:
    epochs: Count = 4
    max_steps: Count | None = None
    precision: Literal["float32", "bf16"] = "float32"  # bf16: f under autocast, the solve's state stays float32
    clip_norm: Positive | None = None
    diagnostics_every: Index = 0  # epochs between measurements that cost extra solves; 0 = at the end only
    log_every: Count = 10  # steps between rows in metrics.jsonl
    checkpoint_seconds: Positive = 60.0


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
    tolerance: Tolerance = 1e-3
    seed: Seed = 0
    device: Device = "auto"
    log: Literal["live", "plain", "quiet"] = "live"
    name: FolderName | None = None
    fresh: bool = False


GROUPS: dict[str, Any] = {
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
OPTIONAL = ("dynamics", "solver", "gradient", "regularizer")  # ignored, and None, where the model does not use them


def typed(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
    """Types a resolved configuration; ``defaults`` is that of the same options with nothing else said.

    Raises SettingError where a value has the wrong type or range.
    """
    hints = get_type_hints(Settings, include_extras=True)
    # what others refer to comes first, so that a wrong value is blamed on the key that was given
    shared = {key: as_type(hints[key], config[key], key) for key in hints if key not in GROUPS and key in config}
    nodes: dict[str, Any] = {name: typed_group(name, config.get(name), defaults.get(name) or {}) for name in GROUPS}
    unused = {name for name in OPTIONAL if name not in nodes["model"].uses}
    for name, node in nodes.items():
        if node is None and name not in unused:
            raise ConfigError(f"{name}=null: model={nodes['model'].name} needs a {name}")
    if nodes["solver"] and nodes["solver"].dt is not None:  # what nothing reads must not tell two runs apart
        for name in ("solver", "gradient"):
            nodes[name] = nodes[name] and replace(nodes[name], rtol=None, atol=None)
    groups: dict[str, Any] = {name: None if name in unused else node for name, node in nodes.items()}
    return Settings(**shared, **groups)


def typed_group(name: str, node: Any, default: Mapping[str, Any]) -> Any:
    """The dataclass of one config group; None where none was chosen."""
    if node is None and name != "model":
        return None
    if not isinstance(node, Mapping):
        raise ConfigError(f"{name} must be one of its options, not {show(node)}")
    cls = GROUPS[name]
    hints = get_type_hints(cls, include_extras=True)
    values, options = {}, {}
    for key, value in node.items():
        if key == "class" and "user_class" in hints:
            values["user_class"] = as_type(str, value, f"{name}.class")
        elif name == "model" and key == "objective":
            values["objective"] = typed_objective(value)
        elif key in hints and key not in ("options", "user_class"):
            values[key] = as_type(hints[key], value, f"{name}.{key}")
        else:
            options[key] = as_type(_hint(name, node, key, default), value, f"{name}.{key}")
    if options and "options" not in hints:
        raise ConfigError(f"no setting '{name}.{next(iter(options))}'")
    if "name" in hints and "name" not in values:
        raise ConfigError(f"{name}.name is missing in the file of that option")
    return cls(**values, **({"options": options} if options else {}))


def typed_objective(node: Any) -> Objective:
    """A name, or ``class: module:Name`` with keyword arguments of its own."""
    if not isinstance(node, Mapping):
        return Objective(as_type(Literal["classify", "regress", "sign", "density"], node, "model.objective"))
    if "class" not in node:
        raise ConfigError("model.objective is a name or has a class: module:Name")
    options = {key: value for key, value in node.items() if key != "class"}
    reference = as_type(str, node["class"], "model.objective.class")
    return Objective(reference.rpartition(":")[2], options, reference)


def _hint(group: str, node: Mapping[str, Any], key: str, default: Mapping[str, Any]) -> Any:
    """The type of an option's own key; those of a user's class are the user's business."""
    of_default = type(default.get(key))
    return of_default if "class" in node else OPTION_KEYS.get(group, {}).get(key, of_default)
