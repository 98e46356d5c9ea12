"""The typed settings of `noderun integrate`; one dataclass per lab, whose fields are the keys of its YAML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_type_hints

from noderun.config.options import Solver
from noderun.config.options.types import Count, Device, FigureFormat, FolderName, Fraction, Positive, Seed
from noderun.config.schema import typed_group
from noderun.config.validation import ConfigError, Constraint, as_type, nearest, show

Tolerance = Annotated[
    float, Constraint(lambda x: x >= 1e-14, "a number from 1e-14 (float64, the dtype, resolves 2.2e-16)")
]
Angle = Annotated[float, Constraint(lambda x: 0 < x < math.pi, "a number between 0 and pi")]
SOME = Constraint(lambda values: len(values) > 0, "a list of at least one")
Names = Annotated[tuple[str, ...], SOME] | None
Counts = Annotated[tuple[Count, ...], SOME]
Slope = Annotated[tuple[Count, ...], Constraint(lambda steps: len(set(steps)) > 1, "a list of two numbers or more")]
Tolerances = Annotated[tuple[Tolerance, ...], SOME]
Row = tuple[float, ...]

PROBLEM_KEYS: dict[str, Any] = {
    "rate": float,
    "frequency": Positive,
    "angle": Angle,
    "eccentricity": Fraction,
    "mu": Positive,
    "points": Count,
}


@dataclass(frozen=True)
class ProblemChoice:
    """The problem to integrate; ``t1`` None is the problem's own end."""

    name: str
    t1: float | None = None
    user_class: str | None = None  # module:Name, called with ``options``
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SolverChoice(Solver):
    """A solver of the lab, which computes in float64."""

    rtol: Tolerance | None = 1e-6
    atol: Positive | None = 1e-6


@dataclass(frozen=True)
class Trajectory:
    """One solve."""


@dataclass(frozen=True)
class Order:
    solvers: Names = None
    steps: Slope = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class WorkPrecision:
    solvers: Names = None
    tolerances: Tolerances = (1e-4, 1e-6, 1e-8)
    steps: Counts = (50, 100, 200)
    repeats: Count = 3
    max_steps: Count = 2_000


@dataclass(frozen=True)
class Stability:
    """``a``, ``b``: a Butcher tableau of the user's; ``alpha``, ``beta``: a multistep method's, highest power first."""

    solvers: Names = None
    a: tuple[Row, ...] | None = None
    b: Row | None = None
    alpha: Row | None = None
    beta: Row | None = None


@dataclass(frozen=True)
class Steps:
    fixed: str = "euler"
    dt: Positive = 1.0


@dataclass(frozen=True)
class Conservation:
    solvers: Names = None
    beside: tuple[str, ...] = ("rk4", "dopri5")
    periods: Count = 100
    nfe_per_period: Count = 400


Cases = Literal["linear", "forced", "trained", "digits"]


@dataclass(frozen=True)
class Gradient:
    tolerances: Tolerances = (1e-2, 1e-4, 1e-6)
    cases: Annotated[tuple[Cases, ...], SOME] = ("linear", "forced", "trained", "digits")
    gradients: Names = None
    max_steps: Count = 2_000


@dataclass(frozen=True)
class Divergence:
    dimensions: Counts = (2, 4, 8, 16, 32, 64, 128, 256)
    batch: Count = 64
    hidden: Count = 64
    rounds: Count = 7


LABS: dict[str, type] = {
    "trajectory": Trajectory,
    "order": Order,
    "work_precision": WorkPrecision,
    "stability": Stability,
    "steps": Steps,
    "conservation": Conservation,
    "gradient": Gradient,
    "divergence": Divergence,
}


@dataclass(frozen=True)
class Settings:
    """All settings of `noderun integrate`."""

    lab: Any
    problem: ProblemChoice
    solver: SolverChoice
    seed: Seed = 0
    device: Device = "cpu"
    log: Literal["live", "plain", "quiet"] = "live"
    name: FolderName | None = None
    figure_format: FigureFormat = "png"
    fresh: bool = False

    @property
    def lab_name(self) -> str:
        return next(name for name, cls in LABS.items() if type(self.lab) is cls)


def typed(config: Mapping[str, Any]) -> Settings:
    """Type a resolved configuration; raise ConfigError if a value has the wrong type or range."""
    lab = group(config, "lab")
    name = lab.pop("name", None)
    if name not in LABS:
        raise ConfigError(f"no lab {show(name)}{nearest(str(name), LABS)}")
    hints = get_type_hints(Settings, include_extras=True)
    shared = {f.name for f in fields(Settings)} - {"lab", "problem", "solver"}
    if "tolerance" in config:  # it is only what others refer to
        as_type(Tolerance, config["tolerance"], "tolerance")
    return Settings(
        lab=dataclass_of(LABS[name], lab, "lab"),
        problem=problem_choice(group(config, "problem")),
        solver=typed_group("solver", group(config, "solver"), {}, SolverChoice),
        **{key: as_type(hints[key], config[key], key) for key in shared if key in config},
    )


def problem_choice(node: dict[str, Any]) -> ProblemChoice:
    """A problem of ours, or the user's ``class:``, whose keys have the types of their values."""
    own = "class" in node
    node |= {"user_class": node.pop("class")} if own else {}
    choice: ProblemChoice = dataclass_of(ProblemChoice, node, "problem", {} if own else PROBLEM_KEYS)
    return choice


def group(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    node = config.get(name)
    if not isinstance(node, Mapping):
        raise ConfigError(f"{name} must be one of its options, not {show(node)}")
    return dict(node)


def dataclass_of(cls: Any, node: Mapping[str, Any], prefix: str, others: Mapping[str, Any] | None = None) -> Any:
    """Make ``cls`` from the keys of a node; keys that are not fields go to ``options`` if the group has them."""
    hints = get_type_hints(cls, include_extras=True)
    values, options = {}, {}
    for key, value in node.items():
        if key in hints and key != "options":
            values[key] = as_type(hints[key], value, f"{prefix}.{key}")
        elif others is None:
            known = [f"{prefix}.{name}" for name in hints]
            raise ConfigError(f"no setting '{prefix}.{key}'{nearest(f'{prefix}.{key}', known)}")
        else:
            options[key] = as_type(others.get(key, type(value)), value, f"{prefix}.{key}")
    return cls(**values, **({"options": options} if options else {}))
