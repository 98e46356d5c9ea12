"""The settings and the model that a finished run ended with, from its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from noderun.config.schema import OWN_PARTS, Gradient, Settings, Solver, typed
from noderun.config.validation import ConfigError
from noderun.config.yaml_files import read_mapping
from noderun.record import files
from noderun.report.folders import Run, read_run, written_by


def finished(folder: Path) -> Run:
    """The run of a folder; ConfigError if it was not trained to its end."""
    run = read_run(folder)
    if run.status != "done":
        raise ConfigError(f"{folder.absolute()} is not finished: it is {run.status}; the command that began it goes on")
    for name in (files.CHECKPOINT, f"{files.HYDRA}/config.yaml"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder.absolute()} is incomplete: it has no {name}")
    return run


def settings_of(folder: Path, allowed: Callable[[str, str], bool]) -> Settings:
    """The settings of the run; ConfigError if this version cannot read them.

    ``allowed(group, class)`` tells which classes of the user's may be loaded: a run's folder may come from anywhere,
    and code that only its config.yaml names is not run.
    """
    config = read_config(folder)
    try:
        settings = typed(config, config)
    except (ConfigError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"this version cannot read {folder.absolute()}{written_by(folder)}: {reason}") from None
    parts = {group: getattr(settings, group) for group in OWN_PARTS}
    for group, part in [*parts.items(), ("model", settings.model.objective)]:
        reference = getattr(part, "user_class", None)
        if reference and not allowed(group, reference):
            raise ConfigError(
                f"{folder.absolute()} names code of its own for {group} (class: {reference}), which runs only where an "
                f"option of yours names it too: give --config-dir DIR, with class: {reference} in a file of "
                f"DIR/{group}, or --trust if the folder is yours"
            )
    return settings


def read_config(folder: Path) -> dict[str, Any]:
    """What a run's config.yaml holds, as plain values: references and Hydra's _target_ in it mean nothing."""
    try:
        return with_floats(read_mapping(folder / files.HYDRA / "config.yaml"))
    except ConfigError as error:
        raise ConfigError(f"config.yaml is damaged{written_by(folder)}: {error}") from None


def with_floats(node: Any) -> Any:
    """YAML 1.1 reads 1e-05 as a word."""
    if isinstance(node, dict):
        return {key: with_floats(value) for key, value in node.items()}
    if isinstance(node, str) and node[:1].isdigit() and "e" in node:
        try:
            return float(node)
        except ValueError:
            return node
    return node


def without_gradient(settings: Settings) -> Settings:
    """Nothing is differentiated in a test: any solver will do, whatever the gradient and model of the training."""
    gradient = settings.gradient and Gradient("backprop", rtol=None, atol=None)
    options = {key: None if key == "test_tolerance" else value for key, value in settings.model.options.items()}
    model = replace(settings.model, fixed_steps=False, options=options)
    return replace(settings, gradient=gradient, regularizer=None, model=model)


def test_solver(settings: Settings) -> Solver | None:
    """The solver of the run's own tests: that of its training, at the tolerance of tests if its model has one."""
    solver, tolerance = settings.solver, settings.model.options.get("test_tolerance")
    if solver is None or tolerance is None:
        return solver
    fixed = solver.dt is not None
    solver = Solver("dopri5", max_steps=solver.max_steps) if fixed else solver
    return replace(solver, rtol=tolerance, atol=tolerance)


def load_setup(folder: Path, settings: Settings) -> Any:
    """The training's Setup with the weights that the run ended with; ValueError if the checkpoint is damaged."""
    from noderun.training.build import make_device, make_setup
    from noderun.training.checkpoint import load_checkpoint, load_model
    from noderun.training.isolation import isolated
    from noderun.training.run import built_in_callbacks

    state = load_checkpoint(folder / files.CHECKPOINT)
    if state is None:
        raise ValueError(f"{folder} has no checkpoint.pt")
    device = make_device(settings.device)
    with isolated(device, settings.seed):
        setup = make_setup(settings, device)
    try:
        callbacks = built_in_callbacks(setup, settings)
        load_model(state, setup, callbacks)
        for callback in callbacks:
            callback.on_fit_end()
    except (KeyError, RuntimeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ValueError(f"{folder}/checkpoint.pt does not fit its settings: {reason}") from None
    setup.model.eval()
    return setup
