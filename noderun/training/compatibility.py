"""What cannot work together, found before a run starts: solver, gradient, model, data and machine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from noderun.config import schema
from noderun.config.schema import Gradient, Regularizer, Settings, Solver
from noderun.config.validation import ConfigError, Incompatible, nearest

if TYPE_CHECKING:
    from noderun.objectives import Objective

MADE_WITH = {  # group -> what its part is made with, before the keys of its option
    "data": ("root", "augment"),  # a user's: with its keys alone
    "model": ("shape", "outputs"),
    "dynamics": ("state_shape",),
    "solver": (),
    "regularizer": (),
    "optimizer": ("params", "lr"),
    "scheduler": ("steps_per_epoch", "horizon"),
}
ONLY_WITH = {  # a model's setting -> the choice among its others that it belongs to
    "model.sigma": ("path", "linear"),
    "model.layers": ("posterior", "planar"),
    "model.rank": ("posterior", "ffjord"),
    "model.flow_hidden": ("posterior", "ffjord"),
}
PACKAGES = {"zuko": "zuko", "ot": "POT"}  # module -> name, of the extra "flows"
FORWARD = {"dynamics": ("t", "y"), "model": ("x",), "series": ("x", "times", "mask")}
OF_ADAPTIVE_STEPS = ("controller", "norm", "first_step", "min_step", "max_step")
OWN_CONTROL = {  # solver -> the settings of adaptive steps that mean nothing to it
    "adams": {"controller"},
    "bdf": {"controller"},
    "radau5": {"controller"},
    "scipy": {"controller", "norm", "min_step"},
}


def check(settings: Settings, given: Set[str]) -> None:
    """Raises Incompatible if right settings do not go together, ConfigError if one can never work here.

    ``given`` are the dotted keys that the command line or an experiment set.
    """
    import torch

    from noderun.training.build import make_device
    from noderun.training.isolation import isolated

    make_device(settings.device)
    with isolated(torch.device("cpu")):  # a module that sets a default dtype sets it for the jobs that load it alone
        check_code(settings)
    check_data_fits(settings)
    check_flow(settings, given)
    check_packages(settings)
    check_series(settings.data)
    if settings.solver:
        check_steps(settings, given)
    if settings.gradient:
        check_gradient(settings, given)
    if settings.regularizer and settings.solver:
        check_regularizer(settings.regularizer, settings.solver)


def check_data_fits(settings: Settings) -> None:
    """A user's data set is checked when it has been read: only then is it known what it is."""
    from noderun.data import SETS
    from noderun.training.build import make_objective

    if not settings.data.user_class:
        source = SETS[settings.data.name]
        targets = source.targets_of(settings.data.options)
        if reason := unfit(settings, make_objective(settings), source.sample, *targets):
            raise Incompatible(reason)


def check_flow(settings: Settings, given: Set[str]) -> None:
    """Raises Incompatible if a flow cannot start or go where it was told to."""
    from noderun.models.flow_matching import unfit_coupling

    model, source = settings.model, settings.data.source
    if source is not None and model.objective.name != "flow_matching":
        raise Incompatible(
            f"data.source={source} is where model=flow_matching begins; model={model.name} with "
            f"model.objective={model.objective.name} begins at a standard normal"
        )
    if settings.data.classes and model.name != "flow_matching" and not model.user_class:
        raise Incompatible(conditioned_on_classes(settings))
    coupling = model.options.get("coupling", "independent")
    if not settings.data.user_class and (reason := unfit_coupling(coupling, settings.data.classes)):
        raise Incompatible(f"model.{reason}")
    if model.options.get("path") == "vp" and source is not None:
        raise Incompatible(
            f"model.path=vp begins at a standard normal, and data.source={source} is another density: try "
            "model.path=linear"
        )
    for key, (choice, value) in ONLY_WITH.items():
        chosen = model.options.get(choice, value)
        if key in given and chosen != value:
            raise Incompatible(f"{key} is of model.{choice}={value}, and model.{choice}={chosen} was chosen")


def conditioned_on_classes(settings: Settings) -> str:
    """Why a model cannot learn a density given the class."""
    return (
        f"data={settings.data.name} is a density given the class, and only model=flow_matching is conditioned on one; "
        f"model={settings.model.name} is not"
    )


def check_packages(settings: Settings) -> None:
    """Raises Incompatible if a package of an extra is needed and not installed."""
    model = settings.model
    transports = model.options.get("coupling", "independent") != "independent" or settings.data.source is not None
    for package in (*model.packages, *(["ot"] if transports else [])):
        if find_spec(package) is None:
            what = "optimal transport" if package == "ot" else f"model={model.name}"
            raise Incompatible(f"{what} needs {PACKAGES[package]}, which is not here: pip install 'noderun[flows]'")


def unfit(settings: Settings, objective: Objective, sample: str, *targets: type) -> str | None:
    """Why model and objective cannot work with a set of this sort of sample and these targets; None if they can."""
    model, data = settings.model, settings.data
    if sample not in model.takes:
        return f"model={model.name} takes {' or '.join(model.takes)} data; data={data.name} is {sample}"
    if reason := other_model(settings, objective):
        return reason
    target = next((target for kind in objective.targets for target in targets if issubclass(target, kind)), None)
    said = f"model.objective={model.objective.user_class or model.objective.name}"
    if target is None:
        wanted, found = (" or ".join(kind.__name__ for kind in kinds) for kinds in (objective.targets, targets))
        return f"{said} needs {wanted} as the target; data={data.name} asks for {found}"
    if data.source is not None and target.__name__ != "Density":
        return (
            f"data.source is where a flow to a density begins, and {said} asks data={data.name} for {target.__name__}"
        )
    if data.classes and target.__name__ != "Density":
        return f"data.classes=true is of a density, and {said} asks data={data.name} for {target.__name__}"
    return None


def other_model(settings: Settings, objective: Objective) -> str | None:
    """Why the objective cannot train one of our models; a user's own is known when it is made."""
    from noderun.models import MODELS

    made, model = MODELS.get(settings.model.name), settings.model
    if model.user_class or not isinstance(made, type) or issubclass(made, objective.models):
        return None
    fitting = [
        name for name, other in MODELS.items() if isinstance(other, type) and issubclass(other, objective.models)
    ]
    said = model.objective.user_class or model.objective.name
    return f"model.objective={said} trains {' or '.join(fitting)}; model={model.name} is another kind of model"


def check_series(data: schema.Data) -> None:
    """Raises Incompatible if what is asked of a series leaves nothing to score."""
    if data.options.get("score") == "held_out" and data.options.get("observed") == 1:
        raise Incompatible("data.score=held_out scores what is not observed: give data.observed below 1")
    if data.options.get("history") == 1 and data.options.get("task") == "forecast":
        raise Incompatible("data.history=1 leaves nothing to forecast: give a share below 1")


def check_data(settings: Any) -> None:
    """Raises Incompatible if files that may or can not be downloaded are missing, or a table is unfit for a density."""
    from noderun.data import SETS, DataError, examine, require

    data = getattr(settings, "data", None)
    if data is None or data.user_class:
        return
    try:
        if not (data.download and SETS[data.name].download):
            require(data.name, data.root)
        examine(data)
    except DataError as error:
        raise Incompatible(str(error)) from None


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
    from noderun.training.optimization import OPTIMIZERS, SCHEDULES

    return {
        "data": {name: source.read for name, source in SETS.items()},
        "model": MODELS,
        "dynamics": DYNAMICS,
        "solver": SOLVERS,
        "gradient": GRADIENTS,
        "regularizer": {**REGULARIZERS, "none": lambda: None},
        "optimizer": OPTIMIZERS,
        "scheduler": SCHEDULES,
    }


def check_steps(settings: Settings, given: Set[str]) -> None:
    solver, model = settings.solver, settings.model
    assert solver is not None
    if solver.dt is None and model.fixed_steps:
        raise Incompatible(f"model={model.name} takes fixed steps only: give solver.dt or a solver such as solver=rk4")
    useless = given & {"solver.rtol", "solver.atol", "gradient.rtol", "gradient.atol"}
    if solver.dt is not None and useless:
        raise Incompatible(f"{min(useless)} was given, but fixed steps (solver.dt={solver.dt:g}) have no tolerance")
    check_solver(solver)
    if model.options.get("norm") == "point" and (solver.dt is not None or solver.norm != Solver.norm):
        raise Incompatible("model.norm=point is the error norm of adaptive steps: leave solver.norm and solver.dt out")
    if solver.per_sample:
        check_per_sample(solver, settings.gradient, settings.regularizer)


def check_solver(solver: Solver) -> None:
    """Raises Incompatible if a solver cannot take its steps as it was told to."""
    from noderun.training.build import make_method

    try:
        method = make_method(solver)
    except (TypeError, ValueError) as error:
        raise Incompatible(f"solver={solver.name}: {error}") from None
    if solver.dt is None and not method.info.adaptive:
        raise Incompatible(f"solver={solver.name} takes fixed steps only: give their size, for instance solver.dt=0.1")
    if solver.dt is not None and not method.info.fixed_step:
        raise Incompatible(f"solver={solver.name} chooses its own steps: leave solver.dt out, or say solver.dt=null")
    asked = {f.name for f in fields(Solver) if f.name in OF_ADAPTIVE_STEPS and getattr(solver, f.name) != f.default}
    if asked and solver.dt is not None:
        raise Incompatible(
            f"solver.{min(asked)} is for adaptive steps, and fixed ones were chosen (solver.dt={solver.dt:g})"
        )
    if useless := asked & OWN_CONTROL.get(solver.name, set()):
        raise Incompatible(f"solver={solver.name} controls its steps in its own way: leave solver.{min(useless)} out")


def check_per_sample(solver: Solver, gradient: Gradient | None, regularizer: Regularizer | None) -> None:
    """Raises Incompatible if the examples of a batch cannot take steps of their own."""
    import torch

    from noderun.ode.gradients import GRADIENTS
    from noderun.ode.solvers import StepOptions
    from noderun.ode.solvers.per_sample.methods import batched_method
    from noderun.training.build import make_method

    try:
        if solver.options.get("compile"):
            raise ValueError("per_sample=True has no compiled steps")
        batched_method(make_method(solver), StepOptions(), torch.zeros(1, 1))
    except ValueError as error:
        raise Incompatible(f"solver.per_sample=true cannot be: {error}") from None
    if gradient is not None and (reason := GRADIENTS[gradient.name](**gradient.options).refusal_per_sample()):
        raise Incompatible(f"solver.per_sample=true cannot be: {reason}")
    if regularizer is not None and regularizer.name != "none":
        raise Incompatible(
            f"regularizer={regularizer.name} is integrated with one time for all examples, and solver.per_sample=true "
            "gives each its own: leave one of them out"
        )


def check_regularizer(regularizer: Regularizer, solver: Solver) -> None:
    from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
    from noderun.regularizers import Local
    from noderun.training.build import make_method, make_regularizer

    if regularizer.name == "none":
        return
    penalty = make_regularizer(regularizer)
    if isinstance(penalty, Local):
        method = make_method(solver)
        if not isinstance(method, ExplicitRungeKutta) or not penalty.fits(method.tableau):
            raise Incompatible(
                f"regularizer={regularizer.name} looks at the stages of an explicit Runge-Kutta step, and "
                f"solver={solver.name} does not have those that it needs; try solver=dopri5"
            )
    elif solver.options.get("compile"):
        raise Incompatible(
            f"regularizer={regularizer.name} makes its field anew for every batch, which solver.compile=true would "
            "compile each time: leave one of them out"
        )
    elif solver.norm != Solver.norm:
        raise Incompatible(
            f"regularizer={regularizer.name} has a norm of its own, without its integral: leave solver.norm out"
        )


def check_gradient(settings: Settings, given: Set[str]) -> None:
    from noderun.ode.gradients import GRADIENTS
    from noderun.training.build import make_method

    solver, gradient = settings.solver, settings.gradient
    assert gradient is not None
    if solver and (reason := GRADIENTS[gradient.name]().refusal(make_method(solver))):
        raise Incompatible(reason)
    own_product = settings.dynamics is not None and settings.dynamics.name != "time_mlp"
    divergence = settings.model.options.get("divergence")
    if gradient.name == "forward" and divergence and (divergence == "hutchinson" or own_product):
        raise Incompatible(
            "gradient=forward cannot be taken through the vector-Jacobian products of a divergence, which only "
            "dynamics=time_mlp and model=cnf have in closed form: use gradient=checkpointed, which is as exact"
        )
    useless = given & {"gradient.rtol", "gradient.atol"}
    if useless and GRADIENTS[gradient.name].exact:
        raise Incompatible(
            f"{min(useless)} was given, but gradient={gradient.name} takes the forward solve's own steps"
        )
