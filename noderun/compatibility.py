"""What cannot work together, found before a run starts: solver, gradient, model, data and machine."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from noderun.settings import Settings, Solver
from noderun.words import Refused, SettingError, nearest


def check(settings: Settings, given: Set[str]) -> None:
    """Raises Refused where right words do not go together, SettingError where one can never work here.

    ``given`` are the dotted keys that were said, on the command line or by an experiment.
    """
    import torch

    from noderun.build import make_device
    from noderun.training.isolation import isolated

    make_device(settings.device)
    with isolated(torch.device("cpu")):  # a module that sets a default dtype sets it for the jobs that load it alone
        check_code(settings)
    data, model = settings.data, settings.model
    if data.kind not in model.takes:
        raise Refused(f"model={model.name} takes {' or '.join(model.takes)} data; data={data.name} is {data.kind}")
    if settings.solver:
        check_steps(settings, given)
    if settings.gradient:
        check_gradient(settings, given)
    if settings.regularizer and settings.solver:
        check_regularizer(settings.regularizer.name, settings.solver)


def check_code(settings: Settings) -> None:
    """Every option's name stands for something, and every ``class:`` can be loaded."""
    from noderun.build import load_class

    for group, known in registries().items():
        choice: Any = getattr(settings, group)
        reference = getattr(choice, "user_class", None)
        if reference:
            load_class(reference)
        elif choice and choice.name not in known:
            raise SettingError(f"{group}: noderun has no {group} named '{choice.name}'{nearest(choice.name, known)}")


def registries() -> dict[str, Set[str]]:
    from noderun.data import SETS
    from noderun.dynamics import DYNAMICS
    from noderun.gradients import GRADIENTS
    from noderun.models import MODELS
    from noderun.regularizers import REGULARIZERS
    from noderun.solvers import SOLVERS
    from noderun.training.optimisation import OPTIMIZERS, SCHEDULES

    return {
        "data": SETS.keys(),
        "model": MODELS.keys(),
        "dynamics": DYNAMICS.keys(),
        "solver": SOLVERS.keys(),
        "gradient": GRADIENTS.keys(),
        "regularizer": REGULARIZERS.keys() | {"none"},
        "optimizer": OPTIMIZERS.keys(),
        "scheduler": SCHEDULES.keys(),
    }


def check_steps(settings: Settings, given: Set[str]) -> None:
    from noderun.solvers import METHODS, SOLVERS

    solver, model = settings.solver, settings.model
    assert solver is not None
    info = SOLVERS[solver.name]
    if solver.dt is None and not info.adaptive:
        raise Refused(f"solver={solver.name} takes fixed steps only: give their size, for instance solver.dt=0.1")
    if solver.dt is None and model.fixed_steps:
        raise Refused(f"model={model.name} takes fixed steps only: give solver.dt or a solver such as solver=rk4")
    if solver.dt is not None and not info.fixed_step:
        raise Refused(f"solver={solver.name} chooses its own steps: leave solver.dt out, or say solver.dt=null")
    useless = given & {"solver.rtol", "solver.atol", "gradient.rtol", "gradient.atol"}
    if solver.dt is not None and useless:
        raise Refused(f"{min(useless)} was given, but fixed steps (solver.dt={solver.dt:g}) have no tolerance")
    try:
        METHODS[solver.name].configured(**solver.options)
    except (TypeError, ValueError) as error:
        raise Refused(f"solver={solver.name}: {error}") from None


def check_regularizer(regularizer: str, solver: Solver) -> None:
    from noderun.regularizers import REGULARIZERS, Local
    from noderun.solvers import METHODS
    from noderun.solvers.runge_kutta import ExplicitRungeKutta

    kind: Any = REGULARIZERS.get(regularizer)
    if isinstance(kind, type) and issubclass(kind, Local):
        method = METHODS[solver.name]
        if not isinstance(method, ExplicitRungeKutta) or not kind().fits(method.tableau):
            lacking = f"regularizer={regularizer} asks the steps of solver={solver.name} for what they lack"
            raise Refused(f"{lacking}; try dopri5")
    elif kind and solver.options.get("compile"):
        raise Refused(
            f"regularizer={regularizer} makes its field anew for every batch, which solver.compile=true would compile "
            "each time: leave one of them out"
        )


def check_gradient(settings: Settings, given: Set[str]) -> None:
    from noderun.gradients import GRADIENTS, refusal
    from noderun.solvers import SOLVERS

    solver, gradient = settings.solver, settings.gradient
    assert gradient is not None
    if solver and (reason := refusal(solver.name, SOLVERS[solver.name], gradient.name)):
        raise Refused(reason)
    useless = given & {"gradient.rtol", "gradient.atol"}
    if useless and GRADIENTS[gradient.name].exact:
        raise Refused(f"{min(useless)} was given, but gradient={gradient.name} takes the forward solve's own steps")
