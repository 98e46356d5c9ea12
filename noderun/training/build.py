"""Settings -> objects: the one place where everything is put together."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from noderun.config.schema import Gradient, Regularizer, Scheduler, Settings, Solver
from noderun.config.startup import without_collection
from noderun.config.user_code import load as load_reference
from noderun.config.validation import ConfigError
from noderun.data import DataError, Dataset, Density, batch_count, batches, load
from noderun.dynamics import DYNAMICS
from noderun.models import MODELS, Flow, FlowMatching, SolveBlock
from noderun.models.flow_matching import unfit_coupling
from noderun.objectives import OBJECTIVES, Objective
from noderun.ode.configured import ConfiguredSolve
from noderun.ode.solvers import METHODS, NonFiniteDynamics, StepController
from noderun.ode.solvers.method import Method
from noderun.regularizers import REGULARIZERS
from noderun.sde.configured import ConfiguredSDESolve
from noderun.training.callbacks import Callback
from noderun.training.compatibility import conditioned_on_classes, unfit
from noderun.training.followers import started
from noderun.training.isolation import imported, isolated
from noderun.training.optimization import SCHEDULES, Schedule, import_compiler, make_optimizer
from noderun.training.parts import class_of
from noderun.training.precision import set_deterministic, set_precision
from noderun.training.progress import Diverged
from noderun.training.ranks import rank_count
from noderun.training.run import Run
from noderun.training.setup import Setup

RESTORES = 3  # from the last checkpoint, in a run whose training turns into numbers that are none
log = logging.getLogger(__name__)


def train_run(settings: Settings, folder: Path, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Train in ``folder``, from its checkpoint if it has one; returns what its result.json holds."""
    device = make_device(settings.device)
    folder.mkdir(parents=True, exist_ok=True)
    restores = 0
    with started(rank_count(settings.trainer.devices)) as followers:
        while True:
            try:
                with computing(settings, device), followers.attempt(settings, device) as ranks:
                    setup = ranks.among(make_setup(settings, device), settings)
                    run = Run(setup, settings, folder, callbacks, restores)
                    return run.complete()
            except (Diverged, NonFiniteDynamics) as error:
                restores = run.progress.restores + 1
                if settings.trainer.on_nonfinite != "restore" or restores > RESTORES:
                    raise
                log.warning(
                    "%s; back to the last checkpoint at half the learning rate, %d of %d", error, restores, RESTORES
                )


@contextmanager
def computing(settings: Settings, device: torch.device) -> Iterator[None]:
    """Inside, torch computes as the settings say, and draws from their seed."""
    with isolated(device, settings.seed):
        set_precision(settings.trainer.precision)
        if settings.deterministic:
            set_deterministic(device)
        with without_collection():
            import_compiler()
        yield


def make_setup(settings: Settings, device: torch.device) -> Setup:
    """Everything that a training run works with; the model's weights are drawn from torch's generator."""
    objective = make_objective(settings)
    dataset = make_dataset(settings, device, objective)
    if reason := unfit(settings, objective, dataset.sample, type(dataset.target)):
        raise DataError(reason)
    objective = objective.for_target(dataset.target)
    model = make_model(settings, dataset, objective).to(device)
    check_trainable(model, objective, settings)
    prepare_for: Any = getattr(model, "prepare_for", None)  # a model may start from its data, or refuse them
    if prepare_for is not None:
        prepare_for(dataset)
    optimizer, regularizer = settings.optimizer, settings.regularizer
    blocks = [module for module in model.modules() if isinstance(module, SolveBlock)]
    if regularizer is not None and regularizer.name != "none":
        for block in blocks:
            block.regularizer = make_regularizer(regularizer)
    size, trainer = settings.data.batch_size, settings.trainer
    steps_per_epoch = batch_count(dataset, "train", size)
    check_batches(settings, dataset, steps_per_epoch)
    return Setup(
        model=model,
        blocks=blocks,
        objective=objective,
        optimizer=make_optimizer(optimizer.name, model, optimizer.lr, optimizer.weight_decay, optimizer.options),
        lr_schedule=make_lr_schedule(settings.scheduler, optimizer.lr, steps_per_epoch),
        horizon=settings.scheduler.horizon and settings.scheduler.horizon * steps_per_epoch,
        batches=lambda split, epoch, start: batches(dataset, split, size, settings.seed, epoch, start),
        steps_per_epoch=steps_per_epoch,
        device=device,
        bf16=trainer.precision == "bf16",
        clip_norm=trainer.clip_norm,
        skips=trainer.on_nonfinite == "skip",
        penalty_weight=regularizer.weight if regularizer else 0.0,
        validated=dataset.validation is not None,
    )


def check_trainable(model: nn.Module, objective: Objective, settings: Settings) -> None:
    """DataError for a model that the objective cannot train."""
    if not isinstance(model, objective.models):
        said, wanted = settings.model.objective.name, " or ".join(kind.__name__ for kind in objective.models)
        raise DataError(f"model.objective={said} trains a {wanted}; model={settings.model.name} is another model")


def check_batches(settings: Settings, dataset: Dataset, steps_per_epoch: int) -> None:
    """DataError for an optimizer that needs all training examples in one batch, if they are in several."""
    if settings.optimizer.name == "lbfgs" and steps_per_epoch > 1:
        raise DataError(
            f"optimizer=lbfgs takes all {len(dataset.train)} training examples in one batch: give "
            f"data.batch_size={len(dataset.train)}"
        )


def make_device(word: str) -> torch.device:
    """``auto`` is CUDA if there is one; ConfigError if this machine lacks the device that was asked for."""
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(f"cuda:{word}" if word.isdigit() else word)
    there = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= there:
        has = f"{there} CUDA device(s)" if there else "no CUDA device"
        raise ConfigError(f"device={word}: this machine has {has}; try device=cpu")
    return device


def load_class(reference: str) -> Any:
    """The user's class that ``module:Name`` names."""
    return imported(reference.partition(":")[0], partial(load_reference, reference))


def make_dataset(settings: Settings, device: torch.device, objective: Objective) -> Dataset:
    """The chosen set, asking for what the objective can be trained on."""
    reference = settings.data.user_class
    return load(settings.data, device, load_class(reference) if reference else None, objective.targets)


def make_objective(settings: Settings) -> Objective:
    choice = settings.model.objective
    return (load_class(choice.user_class) if choice.user_class else OBJECTIVES[choice.name])(**choice.options)


def make_regularizer(choice: Regularizer) -> Any:
    return (load_class(choice.user_class) if choice.user_class else REGULARIZERS[choice.name])(**choice.options)


def make_model(settings: Settings, dataset: Dataset, objective: Objective) -> nn.Module:
    choice, dynamics = settings.model, settings.dynamics
    factory = load_class(choice.user_class) if choice.user_class else MODELS[choice.name]
    used: dict[str, Any] = {}
    if dynamics is not None:
        net = load_class(dynamics.user_class) if dynamics.user_class else DYNAMICS[dynamics.name]
        used["make_dynamics"] = partial(net, **dynamics.options)
    if settings.solver is not None:
        make = make_sde_solve if choice.stochastic else make_solve
        used["solve"] = make(settings.solver, settings.gradient)
    classes = dataset.target.classes if isinstance(dataset.target, Density) else None
    if classes is not None:
        made = class_of(factory)
        if not (isinstance(made, type) and issubclass(made, FlowMatching)):
            raise DataError(conditioned_on_classes(settings))
        if reason := unfit_coupling(choice.options.get("coupling", ""), True):
            raise DataError(f"model.{reason}")
        used["classes"] = classes
    model = factory(dataset.shape, objective.outputs(dataset.target), **used, **choice.options)
    transform = dataset.target.transform if isinstance(dataset.target, Density) else None
    if transform is not None:
        if not isinstance(model, Flow):
            raise DataError(
                f"data={dataset.name} is learned in transformed units, which a noderun.models.Flow converts; "
                f"model={choice.name} is not one"
            )
        model.transform = transform
    if isinstance(model, FlowMatching) and isinstance(dataset.target, Density):
        model.source = dataset.target.source
    return model


def make_method(solver: Solver) -> Method[Any]:
    """The method that a solver's options stand for; ValueError or TypeError if they do not fit it."""
    options = {key: value for key, value in solver.options.items() if key != "compile"}
    if not solver.user_class:
        return METHODS[solver.name].with_options(**options)
    try:
        method = load_class(solver.user_class)(**options)
    except Exception as error:
        raise ValueError(f"class: {solver.user_class} raises {type(error).__name__}: {error}") from error
    if not isinstance(method, Method):
        raise TypeError(f"class: {solver.user_class} makes a {type(method).__name__}, not a noderun.ode.solvers.Method")
    return method


def make_solve(solver: Solver, gradient: Gradient | None) -> ConfiguredSolve:
    """The chosen solve. A model without the gradient group, as the RK-Net, is differentiated by backprop."""
    options = dict(solver.options)
    compile = options.pop("compile", None)  # not an option of the method that another solve of the block may keep
    return ConfiguredSolve(
        solver=make_method(solver) if solver.user_class else solver.name,
        solver_options=None if solver.user_class else options,
        compile=compile,
        rtol=solver.rtol,
        atol=solver.atol,
        dt=solver.dt,
        max_steps=solver.max_steps,
        **step_control(solver),
        gradient=gradient.name if gradient else "backprop",
        gradient_rtol=gradient.rtol if gradient else None,
        gradient_atol=gradient.atol if gradient else None,
        gradient_options=gradient.options if gradient else None,
    )


def make_sde_solve(solver: Solver, gradient: Gradient | None) -> ConfiguredSDESolve:
    """The chosen solve of a stochastic equation."""
    control = step_control(solver)
    control.pop("per_sample", None)
    return ConfiguredSDESolve(
        solver=solver.name,
        rtol=solver.rtol,
        atol=solver.atol,
        dt=solver.dt,
        max_steps=solver.max_steps,
        **control,
        gradient=gradient.name if gradient else "backprop",
        gradient_options=gradient.options if gradient else None,
    )


def step_control(solver: Solver) -> dict[str, Any]:
    """The keywords of ``solve`` that say how adaptive steps are chosen; null leaves one to its default there."""
    gains = solver.controller
    chosen: dict[str, Any] = {"controller": gains if isinstance(gains, str) else StepController(*gains)}
    chosen |= {name: getattr(solver, name) for name in ("norm", "first_step", "min_step", "max_step", "per_sample")}
    return {name: value for name, value in chosen.items() if value is not None}


def make_lr_schedule(scheduler: Scheduler, lr: float, steps_per_epoch: int) -> Schedule:
    factor = SCHEDULES[scheduler.name](steps_per_epoch, scheduler.horizon, **scheduler.options)
    return lambda step: lr * factor(step)
