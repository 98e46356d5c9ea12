"""Settings -> objects: the one place where everything is put together."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from noderun.config.schema import Gradient, Scheduler, Settings, Solver
from noderun.config.schema import Objective as ObjectiveChoice
from noderun.config.startup import without_collection
from noderun.config.user_code import load as load_reference
from noderun.config.validation import ConfigError
from noderun.data import Dataset, batch_count, batches, load
from noderun.dynamics import DYNAMICS
from noderun.models import MODELS, ODEBlock
from noderun.ode import engine
from noderun.ode.gradients import GRADIENTS
from noderun.ode.solvers import METHODS, StepController
from noderun.ode.solvers.method import Method
from noderun.regularizers import REGULARIZERS
from noderun.training.isolation import imported, isolated
from noderun.training.objectives import OBJECTIVES, regularized
from noderun.training.optimization import SCHEDULES, Schedule, import_compiler, make_optimizer
from noderun.training.run import Run, Watch
from noderun.training.setup import Setup


def train_run(settings: Settings, folder: Path, watch: Watch | None = None) -> dict[str, Any]:
    """Trains in ``folder``, from its checkpoint if it has one, and returns its result.json.

    ``watch`` is shown the model before training and at the epochs that ``trainer.diagnostics_every`` names.
    """
    device = make_device(settings.device)
    folder.mkdir(parents=True, exist_ok=True)
    with isolated(device, settings.seed):
        with without_collection():
            import_compiler()
        return Run(make_setup(settings, device), settings, folder, watch).complete()


def make_setup(settings: Settings, device: torch.device) -> Setup:
    """Everything that a training run works with; the model's weights are drawn from torch's generator."""
    dataset = make_dataset(settings, device)
    model = make_model(settings, dataset).to(device)
    optimizer, regularizer = settings.optimizer, settings.regularizer
    blocks = [module for module in model.modules() if isinstance(module, ODEBlock)]
    objective = make_objective(settings.model.objective)
    if regularizer is not None and regularizer.name != "none":
        own = load_class(regularizer.user_class) if regularizer.user_class else REGULARIZERS[regularizer.name]
        for block in blocks:
            block.regularizer = own(**regularizer.options)
        objective = regularized(objective, blocks, regularizer.weight)
    size, trainer = settings.data.batch_size, settings.trainer
    steps_per_epoch = batch_count(dataset, "train", size)
    return Setup(
        model=model,
        blocks=blocks,
        objective=objective,
        optimizer=make_optimizer(optimizer.name, model, optimizer.lr, optimizer.weight_decay, optimizer.options),
        rate=make_rate(settings.scheduler, optimizer.lr, steps_per_epoch),
        batches=lambda split, epoch, start: batches(dataset, split, size, settings.seed, epoch, start),
        steps_per_epoch=steps_per_epoch,
        device=device,
        bf16=trainer.precision == "bf16",
        clip_norm=trainer.clip_norm,
        closer=closer(settings.solver, settings.gradient),
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


def make_dataset(settings: Settings, device: torch.device) -> Dataset:
    reference = settings.data.user_class
    return load(settings.data, device, load_class(reference) if reference else None)


def make_objective(choice: ObjectiveChoice) -> Any:
    return load_class(choice.user_class)(**choice.options) if choice.user_class else OBJECTIVES[choice.name]


def make_model(settings: Settings, dataset: Dataset) -> nn.Module:
    choice, dynamics = settings.model, settings.dynamics
    factory = load_class(choice.user_class) if choice.user_class else MODELS[choice.name]
    used: dict[str, Any] = {}
    if dynamics is not None:
        net = load_class(dynamics.user_class) if dynamics.user_class else DYNAMICS[dynamics.name]
        used["make_dynamics"] = partial(net, **dynamics.options)
    if settings.solver is not None:
        used["solve"] = make_solve(settings.solver, settings.gradient)
    outputs = 1 if choice.objective.name == "sign" else dataset.classes
    return factory(dataset.shape, outputs, **used, **choice.options)


def make_method(solver: Solver) -> Method:
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


def make_solve(solver: Solver, gradient: Gradient | None) -> partial[Any]:
    """engine.solve with the chosen solver and gradient."""
    options = dict(solver.options)
    keywords: dict[str, Any] = {
        "solver": make_method(solver) if solver.user_class else solver.name,
        "compile": options.pop("compile", None),  # not an option of the method that another solve of the block may keep
        "rtol": solver.rtol,
        "atol": solver.atol,
        "dt": solver.dt,
        "max_steps": solver.max_steps,
        **control_of(solver),
        "solver_options": {} if solver.user_class else options,
        "gradient": "backprop",  # of a model that has no gradient group, as the RK-Net
    }
    if gradient is not None:
        keywords |= {"gradient": gradient.name, "gradient_rtol": gradient.rtol, "gradient_atol": gradient.atol}
        keywords["gradient_options"] = gradient.options
    return partial(engine.solve, **{name: value for name, value in keywords.items() if value not in (None, {})})


def control_of(solver: Solver) -> dict[str, Any]:
    """The keywords of ``solve`` that say how adaptive steps are chosen, as far as they are not its defaults."""
    gains = solver.controller
    chosen: dict[str, Any] = {"controller": gains if isinstance(gains, str) else StepController(*gains)}
    names = ("norm", "first_step", "min_step", "max_step", "per_sample")
    chosen |= {name: getattr(solver, name) for name in names}
    usual = {f.name: f.default for f in fields(Solver)}
    return {name: value for name, value in chosen.items() if value != usual[name]}


def closer(solver: Solver | None, gradient: Gradient | None) -> str:
    """Which settings bring a solve's gradient closer to that of the flow."""
    if solver is None or solver.dt is not None:
        return "a smaller solver.dt"
    if gradient is None or GRADIENTS[gradient.name].exact:
        return f"a tolerance below {solver.rtol:g}"
    return f"a gradient.rtol below {gradient.rtol:g}, or gradient=checkpointed"


def make_rate(scheduler: Scheduler, lr: float, steps_per_epoch: int) -> Schedule:
    factor = SCHEDULES[scheduler.name](steps_per_epoch, scheduler.horizon, **scheduler.options)
    return lambda step: lr * factor(step)
