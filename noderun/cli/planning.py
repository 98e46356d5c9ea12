"""Command line -> typed jobs, all of them, before Hydra makes any folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from noderun.config.compose import Composer
from noderun.config.composed import resolved, unresolved
from noderun.config.options.option import facts_of
from noderun.config.schema import GROUPS, Settings, declared_option, typed
from noderun.config.unknown_keys import FactGiven, UnknownKey
from noderun.config.validation import ConfigError, Incompatible, quoted, warn_user
from noderun.record import run_folder
from noderun.record.run_identity import NOT_IN_IDENTITY, digest, identity, run_id
from noderun.training.compatibility import check
from noderun.training.remarks import remarks

OF_HYDRA = re.compile(r"hydra\.(run|sweep)\.dir|hydra/launcher|hydra\.launcher\.[a-z]\w*(\..+)?")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: its words, its typed settings, its folder's name, and the reason if it was refused."""

    overrides: tuple[str, ...]
    settings: Any  # of its task: training's, a lab's, a benchmark's
    identity: dict[str, Any]
    run_id: str
    given: frozenset[str] = frozenset()
    refusal: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What Hydra is told of this job of a grid: its words and its folder's name."""
        return (*self.overrides, f"hydra.sweep.subdir={quoted(self.run_id)}")

    def is_done(self, folder: Path) -> bool:
        """Whether the folder holds this job, finished."""
        return run_folder.read_status(folder).get("status") == "done"

    def label(self, swept: Sequence[str]) -> str:
        """What tells the job from the others of its grid."""
        return " ".join(word for word in self.overrides if key_of(word) in swept) or self.run_id


@dataclass(frozen=True, kw_only=True)
class TrainingJob(Job):
    settings: Settings

    def is_done(self, folder: Path) -> bool:
        """Whether the folder holds this run, at least as long as the settings ask for."""
        return run_folder.is_done(folder, self.settings)


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True)
class Plan:
    """What a command line asks for; ``swept`` are the keys with several values, ``folder`` None is the usual one.

    ``remarks`` are told to the user if a job is started.
    """

    jobs: Sequence[Job]
    hydra_overrides: list[str]
    swept: list[str] = field(default_factory=list)
    name: str = ""
    folder: Path | None = None
    remarks: Sequence[str] = ()


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    """The training runs that a command line asks for; those whose words cannot work together carry their refusal.

    Raises ConfigError if the words are wrong.
    """
    if not multirun:
        planned = plan_one(composer, words, make_job, check_training, "say `noderun sweep` instead")
        parsed = composer.parse(words)
        named = any(override.key_or_group == "name" for override in parsed)
        idle = ["name changes nothing: it names the folder of a sweep or comparison"] if named else []
        return replace(planned, remarks=[*common_remarks(parsed, planned.jobs), *idle])
    ours, hydras = taken_apart(composer.parse(words))
    said = ours
    ours = with_default_grid(composer, ours, hydras)
    parsed = composer.parse(ours)
    swept = swept_keys(parsed)
    jobs = make_grid(composer, combinations(parsed))
    checked = [with_refusal(job, check_training) for job in jobs]
    told = common_remarks(parsed, checked)
    if not swept_keys(composer.parse(said)):
        usual = f"the task's own grid is run: {' '.join(ours[: -len(said) or None])}" if swept else "there is one run"
        told.append(f"no word has several values, so {usual}")
    return Plan(distinct(checked), hydras, swept, grid_name(jobs[0].settings, swept, ours), remarks=told)


def plan_one(
    composer: Composer,
    words: Sequence[str],
    make: Callable[[Composer, Sequence[str]], AnyJob],
    check: Callable[[AnyJob], None],
    instead: str,
) -> Plan:
    """The plan of a task that has one job; ``instead`` says what to do if a word has several values."""
    parsed = composer.parse(words)
    ours, hydras = taken_apart(parsed)
    several = [override.input_line for override in parsed if override.is_sweep_override()]
    if several:
        raise ConfigError(f"{several[0]} has several values, {composer.task} takes one: {instead}")
    return Plan([with_refusal(make(composer, ours), check)], hydras)


def taken_apart(parsed: Sequence[Override]) -> tuple[list[str], list[str]]:
    """Our words, and those for Hydra itself; ConfigError for a word of Hydra's that is not allowed here."""
    ours: list[str] = []
    hydras: list[str] = []
    for override in parsed:
        if override.is_hydra_override():
            check_hydras(override)
        (hydras if override.is_hydra_override() else ours).append(str(override.input_line))
    return ours, hydras


def check_hydras(override: Override) -> None:
    key = override.key_or_group
    if not OF_HYDRA.fullmatch(key):
        raise ConfigError(
            f"{key} is not to be set here; of Hydra's own settings hydra.run.dir, hydra.sweep.dir, hydra/launcher and "
            "what that launcher has are"
        )
    if override.is_sweep_override():
        raise ConfigError(f"{key} cannot have several values: it does not tell one run from another")


def combinations(parsed: Sequence[Override]) -> list[list[str]]:
    """The words of each job of a grid; ConfigError if a word has no values, or infinitely many."""
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line} has values without end: list those to run, with commas between")
    try:
        grid = BasicSweeper.split_arguments(list(parsed), None)[0]
    except (HydraException, ValueError) as error:
        raise ConfigError(f"cannot read the values to sweep over: {error}") from None
    if not grid:
        raise ConfigError("there is nothing to run: a word with several values came out with none")
    return grid


def make_job(composer: Composer, overrides: Sequence[str]) -> TrainingJob:
    config, defaults = composer.known(overrides)
    given = given_keys(config, defaults)
    settings, usual = typed_pair(config, defaults)
    without_default = [key for key, value in unresolved(defaults).items() if value == "???"]
    known = identity(settings, usual, NOT_IN_IDENTITY, without_default)
    name = run_id(settings, known)
    return TrainingJob(overrides=tuple(overrides), settings=settings, identity=known, run_id=name, given=given)


def given_keys(config: DictConfig, defaults: DictConfig) -> frozenset[str]:
    """The keys that were given another value than their default; ConfigError for one that says what an option is."""
    if config is defaults:
        return frozenset()
    values, usual = unresolved(config), unresolved(defaults)
    given = frozenset(key for key in values if values[key] != usual[key])
    check_facts(given, config)
    return given


def check_facts(given: Iterable[str], config: DictConfig) -> None:
    """ConfigError if a key was given that says what an option is."""
    for key in sorted(given):
        group, _, leaf = key.partition(".")
        facts = facts_of(declared_option(group, config[group])) if group in GROUPS else {}
        if leaf in ("name", "class", *facts):
            raise FactGiven(key)


def typed_pair(config: DictConfig, defaults: DictConfig) -> tuple[Settings, Settings]:
    """The settings, and the settings of the same options with everything at its default."""
    values = resolved(config)
    if config is defaults:
        settings = typed(values, values)
        return settings, settings
    filled = defaults.copy()
    for key, value in unresolved(defaults).items():
        if value == "???":  # has no default: whatever was given stands in for it
            OmegaConf.update(filled, key, OmegaConf.select(config, key))
    usual = resolved(filled)
    return typed(values, usual), typed(usual, usual)


def make_grid(composer: Composer, grid: Sequence[Sequence[str]]) -> list[TrainingJob]:
    """One job per combination; a key that only some options have goes to those, one that none has is an error."""
    jobs: list[TrainingJob] = []
    without: dict[str, list[tuple[TrainingJob, UnknownKey]]] = {}
    for words in grid:
        job, unknown = make_job_without(composer, words)
        jobs.append(job)
        for error in unknown:
            without.setdefault(error.key, []).append((job, error))
    for lacking in without.values():
        if len(lacking) == len(jobs):
            raise lacking[0][1]
    for key, lacking in without.items():
        models = sorted({job.settings.model.name for job, _ in lacking})
        warn_user(f"{key} is not a setting of {' and '.join(models)} and is left out there")
    return jobs


def make_job_without(composer: Composer, words: Sequence[str]) -> tuple[TrainingJob, list[UnknownKey]]:
    """The job of the words that its options know, and the errors of the others."""
    unknown: list[UnknownKey] = []
    while True:
        try:
            return make_job(composer, words), unknown
        except UnknownKey as error:
            fitting = [word for word in words if key_of(word) != error.key]
            if len(fitting) == len(words):  # it came from a file
                raise
            words = fitting
            unknown.append(error)


def key_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def check_training(job: TrainingJob) -> None:
    check(job.settings, job.given)


def common_remarks(parsed: Sequence[Override], jobs: Sequence[Job]) -> list[str]:
    """What holds of every job that is not refused: a word that one of them uses is not idle."""
    given = {override.key_or_group for override in parsed if override.value() != "none"}
    found = [remarks(job.settings, given) for job in jobs if not job.refusal]
    first = found[0].items() if found else ()
    return [f"{subject}: {reason}" for subject, reason in first if all(subject in other for other in found)]


def with_refusal(job: AnyJob, check: Callable[[AnyJob], None]) -> AnyJob:
    """The job, with the reason why it is refused if ``check`` finds that its settings cannot work together."""
    try:
        check(job)
    except Incompatible as refused:
        return replace(job, refusal=job.refusal or str(refused))
    return job


def distinct(jobs: Sequence[AnyJob]) -> list[AnyJob]:
    """Jobs that come out equal run once."""
    first = {(digest(job.identity), job.refusal): job for job in reversed(jobs)}
    unique = list(reversed(first.values()))
    if len(unique) < len(jobs):
        warn_user(f"{len(jobs) - len(unique)} of {len(jobs)} jobs come out equal to another and run once")
    return unique


def with_default_grid(composer: Composer, words: list[str], hydras: list[str]) -> list[str]:
    """The words, with the task's own grid if none of them has several values."""
    parsed = composer.parse(words)
    if swept_keys(parsed):
        return words
    chosen = [word for word, override in zip(words, parsed, strict=True) if composer.chooses(override)]
    params = composer.compose([*chosen, *hydras]).hydra.sweeper.get("params") or {}
    said = {override.key_or_group for override in parsed}
    return [*(f"{key}={values}" for key, values in params.items() if key not in said), *words]


def swept_keys(parsed: Sequence[Override]) -> list[str]:
    swept = [override.key_or_group for override in parsed if override.is_sweep_override()]
    for key in swept:
        if key in NOT_IN_IDENTITY:
            raise ConfigError(f"{key} cannot have several values: it does not tell one run from another")
    return swept


def grid_name(settings: Settings, swept: Sequence[str], words: Sequence[str]) -> str:
    """``name=``, else the swept keys and a digest of the words that change runs."""
    if settings.name:
        return settings.name
    counted = sorted(word for word in words if key_of(word) not in NOT_IN_IDENTITY)
    keys = "+".join(key.replace("/", ".") for key in swept) or "single"
    return f"{keys}-{hashlib.sha256(chr(10).join(counted).encode()).hexdigest()[:8]}"
