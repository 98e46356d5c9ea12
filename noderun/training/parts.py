"""Whether the part that each option names exists and takes the option's keys, a user's own included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from noderun.config import schema
from noderun.config.schema import Settings
from noderun.config.validation import ConfigError, Incompatible, nearest

MADE_WITH = {  # group -> what its part is made with, before the keys of its option
    "data": ("root", "augment"),  # a user's: with its keys alone
    "model": ("shape", "outputs"),
    "dynamics": ("state_shape",),
    "solver": (),
    "regularizer": (),
    "optimizer": ("params", "lr"),
    "scheduler": ("steps_per_epoch", "horizon"),
}
FORWARD = {"dynamics": ("t", "y"), "model": ("x",), "series": ("x", "times", "mask")}


def check_code(settings: Settings) -> None:
    """Every option's name stands for something, every ``class:`` can be loaded, and both take their option's keys."""
    from noderun.training.build import load_class

    check_objective(settings.model.objective)
    check_trains(settings.model)
    for group, known in registries().items():
        choice: Any = getattr(settings, group)
        if choice is None:
            continue
        reference = getattr(choice, "user_class", None)
        if not reference and choice.name not in known:
            raise ConfigError(f"{group}: noderun has no {group} named '{choice.name}'{nearest(choice.name, known)}")
        if reference or group not in ("solver", "gradient"):
            made = load_class(reference) if reference else known[choice.name]
            check_call(settings, group, reference or choice.name, made)


def check_objective(choice: schema.Objective) -> None:
    """ConfigError if a user's own objective cannot be made from the keys that stand beside its class."""
    from noderun.training.build import load_class

    if choice.user_class and (reason := misfit(load_class(choice.user_class), (), list(choice.options))):
        raise ConfigError(f"model.objective: class: {choice.user_class} does not take its keys: {reason}")


def check_trains(model: schema.Model) -> None:
    """Raises Incompatible if the objective is for another kind of model."""
    from noderun.models import MODELS
    from noderun.objectives import OBJECTIVES
    from noderun.training.build import load_class

    choice = model.objective
    objective = load_class(choice.user_class) if choice.user_class else OBJECTIVES[choice.name]
    made = class_of(load_class(model.user_class) if model.user_class else MODELS.get(model.name))
    wanted = getattr(objective, "models", object)
    if isinstance(made, type) and not issubclass(made, wanted):
        fitting = [name for name, known in MODELS.items() if issubclass(class_of(known), wanted)]
        raise Incompatible(f"model.objective={choice.name} trains model={' or '.join(fitting)}, not {model.name}")


def class_of(made: Any) -> Any:
    """What a factory with some of its arguments makes."""
    return made.func if isinstance(made, partial) else made


def check_call(settings: Settings, group: str, name: str, made: Any) -> None:
    """ConfigError if a part cannot be made from its option's keys, or a user's net cannot be called as a net."""
    own = ":" in name
    what = f"class: {name}" if own else f"{group}={name}"
    needs = {"make_dynamics": settings.dynamics, "solve": settings.solver} if group == "model" else {}
    keywords = [*(key for key, part in needs.items() if part), *getattr(settings, group).options]
    positional = () if own and group == "data" else MADE_WITH.get(group, ())
    call = f"{name.rpartition(':')[2]}({', '.join([*positional, *keywords])})"
    if not callable(made):
        raise ConfigError(f"{what} must be a class or a function, called as {call}")
    if reason := misfit(made, positional, keywords):
        raise ConfigError(f"{what} is called as {call}: {reason}")
    if own and group in FORWARD and isinstance(made, type):
        series = group == "model" and settings.model.takes == ("series",)
        check_forward(what, made, FORWARD["series" if series else group])


def check_forward(what: str, net: type, arguments: Sequence[str]) -> None:
    from torch.nn import Module

    expected = f"{what} must be a torch.nn.Module with forward({', '.join(arguments)})"
    if not issubclass(net, Module) or net.forward is Module.forward:
        raise ConfigError(expected)
    if reason := misfit(net.forward, ("self", *arguments), ()):
        raise ConfigError(f"{expected}: {reason}")


def misfit(function: Callable[..., Any], positional: Sequence[str], keywords: Sequence[str]) -> str | None:
    """Why a function cannot be called with these arguments; None if it can, or if that is unknown."""
    try:
        inspect.signature(function).bind(*positional, **dict.fromkeys(keywords))
    except TypeError as error:
        return str(error)
    except ValueError:  # written in C
        return None
    return None


def registries() -> dict[str, Mapping[str, Any]]:
    """Group -> name -> what makes it, for all that an option's file can name."""
    from noderun.data import SETS
    from noderun.dynamics import DYNAMICS
    from noderun.models import MODELS
    from noderun.ode.gradients import GRADIENTS
    from noderun.ode.solvers import SOLVERS
    from noderun.regularizers import REGULARIZERS
    from noderun.sde import SOLVERS as SDE_SOLVERS
    from noderun.training.optimization import OPTIMIZERS, SCHEDULES

    return {
        "data": {name: source.read for name, source in SETS.items()},
        "model": MODELS,
        "dynamics": DYNAMICS,
        "solver": {**SDE_SOLVERS, **SOLVERS},
        "gradient": GRADIENTS,
        "regularizer": {**REGULARIZERS, "none": lambda: None},
        "optimizer": OPTIMIZERS,
        "scheduler": SCHEDULES,
    }
