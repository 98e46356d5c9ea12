"""Words of a command line -> typed jobs, all of them, before Hydra makes any folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from noderun.compatibility import check
from noderun.compose import Composer, UnknownKey, known_keys, resolved, unresolved
from noderun.runs import OUTSIDE_DIGEST, digest, identity, run_id
from noderun.settings import GROUPS, Settings, typed
from noderun.words import Refused, SettingError, tell

NOT_SWEPT = OUTSIDE_DIGEST - {"tolerance"}
DECLARED = {"name", "kind", "takes", "uses", "fixed_steps", "class"}  # what an option is


@dataclass(frozen=True)
class Job:
    """One run: its words, what they mean, and why it will not run where it was refused."""

    overrides: tuple[str, ...]
    settings: Settings
    identity: dict[str, Any]
    given: frozenset[str] = frozenset()
    refusal: str | None = None

    @property
    def run_id(self) -> str:
        return run_id(self.settings, self.identity)


@dataclass(frozen=True)
class Plan:
    """What a command line asks for; ``swept`` are the keys that have several values."""

    jobs: list[Job]
    hydra_overrides: list[str]
    swept: list[str] = field(default_factory=list)
    name: str = ""


def plan(composer: Composer, words: Sequence[str], multirun: bool) -> Plan:
    """Raises SettingError where the words are wrong; jobs whose words cannot work together carry their refusal."""
    parsed = composer.parse(words)
    ours = [str(o.input_line) for o in parsed if not o.is_hydra_override()]
    hydras = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    if multirun:
        ours = with_default_grid(composer, ours, hydras)
    parsed = composer.parse(ours)
    swept = swept_keys(parsed)
    if swept and not multirun:
        line = next(o.input_line for o in parsed if o.is_sweep_override())
        raise SettingError(f"{line} has several values, one run takes one: say `noderun sweep` instead")
    overrides = BasicSweeper.split_arguments(parsed, None)[0]
    jobs = make_grid(composer, overrides) if multirun else [make_job(composer, ours)]
    return Plan(distinct([checked(job) for job in jobs]), hydras, swept, grid_name(jobs[0].settings, swept, ours))


def make_job(composer: Composer, overrides: Sequence[str]) -> Job:
    config = composer.compose(overrides)
    return job_of(composer, config, config.hydra.runtime.choices, overrides)


def job_of(composer: Composer, config: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Job:
    """The job of a configuration that was composed already; raises SettingError."""
    defaults = composer.defaults(choices)
    raw, usual = unresolved(config), unresolved(defaults)
    for key in sorted(raw.keys() - usual.keys()):
        raise UnknownKey(key, known_keys(defaults))
    given = frozenset(key for key in raw if raw[key] != usual[key])
    for key in sorted(given):
        group, _, leaf = key.partition(".")
        if group in GROUPS and leaf in DECLARED:
            raise SettingError(f"{key} says what that option is and cannot be set; choose another {group}")
    settings, base = typed_pair(config, defaults)
    always = [key for key, value in usual.items() if value == "???"]
    return Job(tuple(overrides), settings, identity(settings, base, always), given)


def typed_pair(config: DictConfig, defaults: DictConfig) -> tuple[Settings, Settings]:
    """The settings, and what they would be had nothing been said beside the choice of options."""
    values = resolved(config)
    filled = defaults.copy()
    for key, value in unresolved(defaults).items():
        if value == "???":  # has no default: whatever was given stands in for it
            OmegaConf.update(filled, key, OmegaConf.select(config, key))
    usual = resolved(filled)
    return typed(values, usual), typed(usual, usual)


def make_grid(composer: Composer, grid: Sequence[Sequence[str]]) -> list[Job]:
    """One job a combination; a key that only some options have goes to those, one that none has is an error."""
    jobs: list[Job] = []
    without: dict[str, list[tuple[Job, UnknownKey]]] = {}
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
        tell(f"{key} is no setting of {' and '.join(models)}, which goes without it")
    return jobs


def make_job_without(composer: Composer, words: Sequence[str]) -> tuple[Job, list[UnknownKey]]:
    """The job of those words that its options know, and what they do not know."""
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


def checked(job: Job) -> Job:
    try:
        check(job.settings, job.given)
    except Refused as refused:
        return replace(job, refusal=str(refused))
    return job


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """Jobs that come out equal run once."""
    first = {(digest(job.identity), job.refusal): job for job in reversed(jobs)}
    unique = list(reversed(first.values()))
    if len(unique) < len(jobs):
        tell(f"{len(jobs) - len(unique)} of {len(jobs)} jobs come out equal to another and run once")
    return unique


def with_default_grid(composer: Composer, words: list[str], hydras: list[str]) -> list[str]:
    """The task's own grid, where the command line gives nothing several values."""
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
        if key in NOT_SWEPT:
            raise SettingError(f"{key} cannot have several values: it does not tell one run from another")
    return swept


def grid_name(settings: Settings, swept: Sequence[str], words: Sequence[str]) -> str:
    """``name=``, else the swept keys and a digest of the words that change runs."""
    if settings.name:
        return settings.name
    counted = sorted(word for word in words if key_of(word) not in NOT_SWEPT)
    keys = "+".join(key.replace("/", ".") for key in swept) or "single"
    return f"{keys}-{hashlib.sha256(chr(10).join(counted).encode()).hexdigest()[:8]}"
