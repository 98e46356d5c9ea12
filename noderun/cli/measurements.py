"""The measurements that `noderun evaluate` asks for: each is one trained run under one solver."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from noderun.cli.planning import Job, key_of, with_refusal
from noderun.config.compose import Composer
from noderun.config.composed import resolved
from noderun.config.options.types import Count, FigureFormat
from noderun.config.schema import Model, Settings, Solver, typed_group, without_tolerances
from noderun.config.validation import ConfigError, Incompatible, as_type, nearest, quoted, show
from noderun.evaluation.trained import read_config, settings_of, test_solver, without_gradient
from noderun.record import run_identity
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
    draws: int = 1  # of Hutchinson's noise
    plane: tuple[int, int] | None = None  # the components that figures show

    def label(self, swept: Sequence[str]) -> str:
        return f"run {run_identity.digest(self.run.identity)} with {solver_words(self.settings)}"


def solver_words(settings: Settings) -> str:
    """The solver as part of a folder's name or a label; the model's name if it has no solver."""
    solver = settings.solver
    if solver is None:
        return settings.model.name
    return f"{solver.name}-tol{solver.rtol:g}" if solver.dt is None else f"{solver.name}-dt{solver.dt:g}"


def make_measurement(composer: Composer, run: Run, words: Sequence[str], chosen: Solver | None = None) -> Measurement:
    """The run tested as the words say; what they do not say of the solver is as in ``chosen``, or as in training.

    Raises ConfigError if the words or the run's folder are wrong; right words that do not fit are a refusal.
    """
    trained = settings_of(run.folder, composer.allows)
    words, solver, config, reason = with_solver(composer, run, trained, words, chosen or test_solver(trained))
    asked = resolved(OmegaConf.masked_copy(config, [str(key) for key in config if key != "solver"]))
    settings = replace(
        without_gradient(replace(trained, solver=solver)),
        data=replace(trained.data, root=str(asked["data"]["root"] or trained.data.root)),
        figure_format=as_type(FigureFormat, asked["figure_format"], "figure_format"),
        **{key: asked[key] for key in ("device", "log", "fresh")},
    )
    divergence, draws = divergence_of(asked["divergence"], settings), as_type(Count, asked["draws"], "draws")
    settings = replace(settings, model=by_divergence(settings.model, divergence))
    draws = draws if settings.model.options.get("test_divergence") == "hutchinson" else 1
    figures, lesion = figures_of(asked["figures"], settings), lesion_of(asked["lesion"])
    plane = plane_of(asked["plane"], figures)
    steps, shown = run.result.get("steps"), list(figures) or None
    known = identity(Asked(run.folder.name, steps, settings.solver, lesion, shown, divergence, draws, plane))
    cell = Measurement(
        overrides=tuple(words),
        settings=settings,
        identity=known,
        run_id="-".join([solver_words(settings), *([divergence] if divergence else []), run_identity.digest(known)]),
        refusal=reason,
        run=run,
        trained=trained,
        lesion=lesion,
        figures=figures,
        draws=draws,
        plane=plane,
    )
    return with_refusal(cell, check_measurement)


def with_solver(
    composer: Composer, run: Run, trained: Settings, words: Sequence[str], solver: Solver | None
) -> tuple[list[str], Solver | None, DictConfig, str | None]:
    """The words with all that ``solver`` and they themselves say of the solver, that solver, what they compose, and why
    the run cannot be tested so."""
    given = {override.key_or_group for override in composer.parse(words)}
    of_solver = sorted(key for key in given if key.partition(".")[0] == "solver")
    words = [f"run={quoted(run.folder)}", *words]
    if trained.solver is None or solver is None:
        words = [word for word in words if key_of(word) not in of_solver]
        nothing = (
            f"model={trained.model.name} solves no ODE, so {of_solver[0]} means nothing to it" if of_solver else None
        )
        return words, solver, composer.known(words)[0], nothing
    words = words if "solver" in given else [f"solver={word(solver.name)}", *words]
    config = composer.known(words)[0]
    tolerance = trained.model.options.get("test_tolerance") or read_config(run.folder).get("tolerance")
    solver = under_words(solver, tolerance, config, given)
    words = [*(word for word in words if key_of(word).partition(".")[0] != "solver"), *words_of(solver)]
    return words, solver, config, None


def divergence_of(value: Any, settings: Settings) -> str | None:
    """ConfigError if it is no way to a divergence, or if the model has none."""
    if value is None:
        return None
    chosen: str = as_type(Literal["exact", "hutchinson"], value, "divergence")
    if "test_divergence" not in settings.model.options:
        raise ConfigError(f"divergence={chosen} is of continuous flows, and model={settings.model.name} is none")
    return chosen


def by_divergence(model: Model, divergence: str | None) -> Model:
    """The model tested by the divergence that was asked for."""
    return model if divergence is None else replace(model, options=model.options | {"test_divergence": divergence})


def under_words(solver: Solver, tolerance: Any, config: DictConfig, given: Set[str]) -> Solver:
    """The solver with what a composed configuration says of it; the ``tolerance`` is training's if none was given."""
    if config.tolerance is None:
        config = DictConfig(OmegaConf.merge(config, {"tolerance": tolerance}))
    node = resolved(config)["solver"]
    if "solver" not in given:
        loosened = {"rtol", "atol"} if "tolerance" in given else set()
        kept = {key for key in node_of(solver) if f"solver.{key}" not in given} - loosened
        node |= {key: value for key, value in node_of(solver).items() if key in kept}
    changed: Solver = typed_group("solver", node, node)
    return changed if changed.dt is None else without_tolerances(changed)


def node_of(solver: Solver) -> dict[str, Any]:
    """A solver's settings by key, without its name and without the tolerances that it does not have."""
    values = {key: value for key, value in vars(solver).items() if key not in ("name", "options", "user_class")}
    return {
        key: value for key, value in values.items() if key not in ("rtol", "atol") or value is not None
    } | solver.options


def words_of(solver: Solver) -> list[str]:
    """The words that tell Hydra of a solver as it is, for the configuration that it leaves in the folder."""
    return [f"solver={word(solver.name)}", *(f"++solver.{key}={word(value)}" for key, value in node_of(solver).items())]


def identity(asked: Asked) -> dict[str, Any]:
    """What makes a measurement the one that it is: the run as far as it was trained, and the test's own choices."""
    solver = asked.solver
    return run_identity.identity(asked, Asked("", None, solver and Solver(solver.name)), set())


@dataclass(frozen=True)
class Asked:
    """What is measured, as far as it tells measurements apart."""

    run: str
    steps: int | None
    solver: Solver | None
    lesion: str | None = None
    figures: list[str] | None = None
    divergence: str | None = None
    draws: int = 1
    plane: tuple[int, int] | None = None


def check_measurement(cell: Measurement) -> None:
    """Raises Incompatible if the words cannot work together."""
    check(cell.settings, frozenset())
    model = cell.settings.model
    if cell.lesion and "blocks" not in model.options and not model.user_class:
        raise Incompatible(f"lesion: model={model.name} has no blocks to remove; resnet, plain and revnet have")
    impossible = [name for name in cell.figures if FIGURES[name].of_solve and cell.settings.solver is None]
    if impossible:
        raise Incompatible(f"figures={impossible[0]} shows a solve, and model={model.name} solves no ODE")


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


def plane_of(value: Any, figures: Sequence[str]) -> tuple[int, int] | None:
    """Two components of a state; ConfigError if it is anything else, or if no figure shows them."""
    if value is None:
        return None
    plane = as_type(tuple[Count, ...], value, "plane")
    if len(set(plane)) != 2 or len(plane) != 2:
        raise ConfigError(f"plane names two components of the state, from 1, such as [1,3], not {show(value)}")
    able = [name for name, figure in FIGURES.items() if figure.in_plane]
    if not set(able) & set(figures):
        raise ConfigError(f"plane is of the figures {', '.join(able)}: give one of them too, figures={able[0]}")
    return plane[0], plane[1]


def lesion_of(value: Any) -> str | None:
    if value is None or value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return None if value is None else str(value)
    raise ConfigError(f"lesion must be all or the number of a block, not '{value}'")


def word(value: Any) -> str:
    """A value as Hydra's grammar takes it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(word, value))}]"
    return quoted(value) if isinstance(value, str) else show(value)
