"""The typed settings of a run: the place where Hydra's DictConfig stops.

One frozen dataclass a config group; its fields are the keys of that group's YAML files. Ranges are checked in
``__post_init__``, so that what is wrong with the words is found before anything starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Data:
    """Where batches come from; ``options`` are keyword arguments of the data set's own loader or user class."""

    name: str
    root: str = "data"
    download: bool = True
    limit: int | None = None  # training examples only
    batch_size: int = 64
    augment: bool = False  # random crop with padding 4, and flip where a mirror image keeps its class
    options: dict[str, Any] = field(default_factory=dict)
    user_class: str | None = None


@dataclass(frozen=True)
class Model:
    """What is trained; ``uses`` names the config groups that it needs, ``takes`` the kinds of data."""

    name: str
    objective: str = "classify"
    takes: tuple[str, ...] = ("image",)
    uses: tuple[str, ...] = ()
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
    """How y' = f(t, y) is integrated; dt = None steps adaptively."""

    name: str
    rtol: float = 1e-3
    atol: float = 1e-3
    dt: float | None = None
    max_steps: int = 10_000
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gradient:
    """How dL/dtheta passes through the solve."""

    name: str
    rtol: float = 1e-3
    atol: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Optimizer:
    name: str
    lr: float = 3e-3
    weight_decay: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)  # momentum, betas, ...


@dataclass(frozen=True)
class Scheduler:
    """The learning rate along training; ``horizon`` (epochs) is where a schedule that has an end ends."""

    name: str
    horizon: int = 1
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trainer:
    epochs: int = 4
    max_steps: int | None = None
    precision: str = "float32"  # or bf16: f under autocast, the state of the solve stays float32
    clip_norm: float | None = None
    diagnostics_every: int = 0  # epochs between measurements that cost extra solves; 0 = at the end only
    log_every: int = 10  # steps between rows in metrics.jsonl
    checkpoint_seconds: float = 60.0


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
    tolerance: float = 1e-3
    seed: int = 0
    device: str = "auto"
    log: str = "live"
    name: str | None = None
    fresh: bool = False
