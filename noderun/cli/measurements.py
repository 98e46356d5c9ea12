"""Words of `noderun evaluate` -> cells, each one trained run under one solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noderun.cli.planning import Job, key_of
from noderun.config.compose import Composer, resolved
from noderun.config.schema import Settings, Solver, typed
from noderun.config.validation import ConfigError, Incompatible, flat, nearest, quoted, show
from noderun.evaluation.trained import finished, read_config, settings_of, without_gradient
from noderun.record import run_folder
from noderun.report.figures import FIGURES, names_of
from noderun.report.folders import Run
from noderun.training.compatibility import check


@dataclass(frozen=True, kw_only=True)
class Measurement(Job):
    """``settings`` are the trained run's with what the test changes; ``trained`` those it was trained with."""

    run: Run
    trained: Settings
    lesion: str | None
    figures: tuple[str, ...]


def solver_words(settings: Settings) -> str:
    """A solver as part of a folder's name or a label; the model where it has none."""
    solver = settings.solver
    if solver is None:
        return settings.model.name
    return f"{solver.name}-tol{solver.rtol:g}" if solver.dt is None else f"{solver.name}-dt{solver.dt:g}"


def make_measurement(composer: Composer, words: Sequence[str]) -> Measurement:
    """Raises SettingError where the words or the run's folder are wrong; right ones that do not fit are a refusal."""
    said = {override.key_or_group for override in composer.parse(words)}
    of_solver = sorted(key for key in said if key.partition(".")[0] == "solver")
    asked = resolved(composer.compose([word for word in words if key_of(word) not in of_solver]))
    run = finished(Path(asked["run"]))
    trained = settings_of(run.folder, composer.classes)
    settings, reason = trained, None
    if trained.solver is not None:
        settings = under_solver(composer, run, trained, words, said)
    elif of_solver:
        reason = f"model={trained.model.name} solves no ODE, so {of_solver[0]} means nothing to it"
    data = replace(trained.data, root=str(asked["data"]["root"] or trained.data.root))
    shared = {key: asked[key] for key in ("device", "log", "fresh")}
    settings = replace(without_gradient(settings), data=data, **shared)
    figures, lesion = figures_of(asked["figures"], settings), lesion_of(asked["lesion"])
    known = identity(run, settings, lesion, figures)
    cell = Measurement(
        overrides=tuple(words),
        settings=settings,
        identity=known,
        run_id=f"{solver_words(settings)}-{run_folder.digest(known)}",
        refusal=reason,
        run=run,
        trained=trained,
        lesion=lesion,
        figures=figures,
    )
    return checked(cell, explicit=asked["figures"] != "all")


def under_solver(composer: Composer, run: Run, trained: Settings, words: Sequence[str], said: set[str]) -> Settings:
    """The run's settings with the solver that the words say; what they do not say is as in training."""
    own = [] if "tolerance" in said else [f"tolerance={trained.tolerance}"]
    if "solver" not in said and trained.solver is not None:
        tolerances = {"solver.rtol", "solver.atol"} if "tolerance" in said else set()
        own += [text for text in words_of(trained.solver) if key_of(text) not in said | tolerances]
    config, _ = composer.known([*own, *words])
    merged = read_config(run.folder) | {"solver": resolved(config)["solver"]}
    return typed(merged, merged)


def words_of(solver: Solver) -> list[str]:
    """The words that choose a solver as it is, with the tolerances that it has."""
    values = vars(solver) | solver.options
    kept = {key: value for key, value in values.items() if key not in ("name", "options")}
    unsaid = [key for key in ("rtol", "atol") if kept[key] is None]
    return [f"solver={word(solver.name)}", *(f"solver.{key}={word(v)}" for key, v in kept.items() if key not in unsaid)]


def identity(run: Run, settings: Settings, lesion: str | None, figures: Sequence[str]) -> dict[str, Any]:
    """What makes a measurement the one that it is: the run as far as it was trained, and the test's own choices."""
    values = flat({"solver": vars(settings.solver)}) if settings.solver else {}
    asked = {"lesion": lesion, "figures": list(figures) or None}
    known = {"run": run.folder.name, "steps": run.result.get("steps"), **values, **asked}
    return {key: value for key, value in known.items() if value is not None}


def checked(cell: Measurement, explicit: bool) -> Measurement:
    """With its refusal, where its words cannot work together. Figures of "all" that cannot be are left out later."""
    try:
        check(cell.settings, frozenset())
        model = cell.settings.model
        if cell.lesion and "blocks" not in model.options and not model.user_class:
            raise Incompatible(f"lesion: model={model.name} has no blocks to remove; resnet, plain and revnet have")
        impossible = [name for name in cell.figures if FIGURES[name].of_solve and cell.settings.solver is None]
        if explicit and impossible:
            raise Incompatible(f"figures={impossible[0]} shows a solve, and model={model.name} solves no ODE")
    except Incompatible as refused:
        return replace(cell, refusal=cell.refusal or str(refused))
    return cell


def figures_of(value: Any, settings: Settings) -> tuple[str, ...]:
    if value is None or value is False:
        return ()
    if value == "all":
        return tuple(name for name in names_of("model") if settings.solver is not None or not FIGURES[name].of_solve)
    names = [value] if isinstance(value, str) else value
    for name in names if isinstance(names, list) else [str(names)]:
        if name not in names_of("model"):
            raise ConfigError(f"no figure '{name}'{nearest(str(name), (*names_of('model'), 'all'))}")
    return tuple(names)


def lesion_of(value: Any) -> str | None:
    if value is None or value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return None if value is None else str(value)
    raise ConfigError(f"lesion must be all or the number of a block, not '{value}'")


def word(value: Any) -> str:
    """A value as Hydra's grammar takes it."""
    return quoted(value) if isinstance(value, str) else show(value)
