"""What cannot work together, found before a run starts: solver, gradient, model, data and machine."""

from __future__ import annotations

from collections.abc import Set
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from noderun.config import schema
from noderun.config.schema import Settings
from noderun.config.validation import Incompatible
from noderun.training.parts import check_code
from noderun.training.rank_compatibility import check_ranks
from noderun.training.solve_compatibility import check_gradient, check_regularizer, check_steps

if TYPE_CHECKING:
    from noderun.objectives import Objective

ONLY_WITH = {  # a model's setting -> the choice among its others that it belongs to
    "flow_matching": {"model.sigma": ("path", "linear")},
    "vae": {
        "model.layers": ("posterior", "planar"),
        "model.rank": ("posterior", "ffjord"),
        "model.flow_hidden": ("posterior", "ffjord"),
    },
}
PACKAGES = {"zuko": "zuko", "ot": "POT"}  # module -> name, of the extra "flows"
SERVICES = ("wandb", "mlflow")  # packages and extras of the same names


def check(settings: Settings, given: Set[str]) -> None:
    """Raises Incompatible if right settings do not go together, ConfigError if one can never work here.

    ``given`` are the dotted keys that the command line or an experiment set.
    """
    import torch

    from noderun.training.build import make_device
    from noderun.training.isolation import isolated
    from noderun.training.precision import unfit_precision

    device, solver = make_device(settings.device), settings.solver
    rtol = None if solver is None or solver.dt is not None else solver.rtol
    if reason := unfit_precision(settings.trainer.precision, device.type == "cuda", rtol):
        raise Incompatible(reason)
    with isolated(torch.device("cpu")):  # a module that sets a default dtype sets it for the jobs that load it alone
        check_code(settings)
    check_data_fits(settings)
    check_patience(settings)
    check_flow(settings, given)
    check_packages(settings)
    check_series(settings.data)
    if settings.solver:
        check_steps(settings, given)
    if settings.gradient:
        check_gradient(settings, given)
    if settings.regularizer and settings.solver:
        check_regularizer(settings.regularizer, settings.solver)
    check_ranks(settings, device.type == "cuda")


def check_data_fits(settings: Settings) -> None:
    """A user's data set is checked when it has been read: only then is it known what it is."""
    from noderun.data import SETS
    from noderun.training.build import make_objective

    if not settings.data.user_class:
        source = SETS[settings.data.name]
        targets = source.targets_of(settings.data.options)
        if reason := unfit(settings, make_objective(settings), source.sample, *targets):
            raise Incompatible(reason)


def check_patience(settings: Settings) -> None:
    """Of a table it is known only when it has been read whether its file has a split for validation."""
    from noderun.data import SETS

    data, patience = settings.data, settings.trainer.patience
    if patience is None or data.validation or data.user_class:
        return
    if not (SETS[data.name].validated or SETS[data.name].examined):
        raise Incompatible(
            f"trainer.patience={patience} stops by the split for validation, and data={data.name} has none: give "
            "data.validation=0.1"
        )


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
    for key, (choice, value) in ONLY_WITH.get(model.name, {}).items():
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
    for name in settings.trainer.recorders:
        if name in SERVICES and find_spec(name) is None:
            raise Incompatible(f"trainer.recorders: {name} is not here: pip install 'noderun[{name}]'")


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
        return f"{said} needs {wanted} as the target; data={data.name} asks for {found}{objectives_of(targets)}"
    if data.source is not None and target.__name__ != "Density":
        return (
            f"data.source is where a flow to a density begins, and {said} asks data={data.name} for {target.__name__}"
        )
    if data.classes and target.__name__ != "Density":
        return f"data.classes=true is of a density, and {said} asks data={data.name} for {target.__name__}"
    return None


def objectives_of(targets: tuple[type, ...]) -> str:
    """The end of a sentence: which objectives of any model have one of these targets."""
    from torch import nn

    from noderun.objectives import OBJECTIVES

    fitting = [
        name
        for name, objective in OBJECTIVES.items()
        if nn.Module in objective.models and any(issubclass(target, objective.targets) for target in targets)
    ]
    return f", which is for model.objective={' or '.join(fitting)}" if fitting else ""


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


def check_first_step(settings: Any) -> None:
    """Raises Incompatible if the first step of training cannot be made with the data, which are there."""
    from noderun.training.cost import check_cost

    if isinstance(settings, Settings):
        check_cost(settings)
