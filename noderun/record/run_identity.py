"""What makes a run the run that it is: the settings that count, their digest, and the name of its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from noderun.config.options.option import facts_of
from noderun.config.schema import GROUPS, Settings
from noderun.config.user_code import source_hash
from noderun.config.validation import ConfigError, flat
from noderun.record import files
from noderun.record.seal import seal_of

# settings that do not change a run's result, only how far it is trained and what is reported of it
NOT_IN_IDENTITY = {
    "name",
    "log",
    "device",
    "figure_format",
    "fresh",
    "data.root",
    "data.download",
    "trainer.epochs",
    "trainer.max_steps",
    "trainer.max_seconds",
    "trainer.devices",
    "trainer.diagnostics_every",
    "trainer.log_every",
    "trainer.profile",
    "trainer.recorders",
    "trainer.checkpoint_seconds",
}
# settings of the data that change what is trained on, and not what is tested
OF_TRAINING = {f"data.{key}" for key in ("name", "class", "limit", "batch_size", "augment", "validation", "unroll")}
# settings that are part of a run's name if they are not their defaults; a schedule ends where the epochs do
IN_NAMES = {"optimizer.lr": "lr", "scheduler.horizon": "epochs", "seed": "seed"}
# settings that tell most of a run, in the order in which they are shown
FIRST = (
    *("model", "data", "dynamics", "solver", "tolerance", "solver.dt", "gradient", "regularizer"),
    *("optimizer", "optimizer.lr", "data.batch_size", "trainer.epochs", "seed"),
)


def identity(settings: Any, defaults: Any, ignored: Collection[str], always: Collection[str] = ()) -> dict[str, Any]:
    """What makes a job the job that it is: the names of its choices, and the settings that are not their defaults.

    ``ignored`` names keys or whole groups that do not count, ``always`` keys that count whatever their value.
    """
    values, usual = values_by_key(settings), values_by_key(defaults)
    counted = {key for key in values if not {key, key.partition(".")[0]} & set(ignored)}
    kept = {key for key in counted if key in always or values[key] != usual.get(key)}
    # a group whose option is "none" is not there; so a group that is new later leaves the old runs their names
    kept |= {key for key in counted if key.endswith(".name") and key.count(".") == 1 and values[key] != "none"}
    classes = {key: values[key] for key in counted if key.endswith(".class") and values[key]}
    sources = {key: f"{reference} {source_hash(reference)}" for key, reference in classes.items()}
    if start := values.get("init_from"):
        sources["init_from"] = checkpoint_hash(Path(start))
    read = {key: values[key] for key in counted if names_file(key, values[key])}
    sources |= {key: f"{path} {content_hash(Path(path))}" for key, path in read.items()}
    return dict(sorted(({key: values[key] for key in kept} | sources).items()))


def checkpoint_hash(folder: Path) -> str:
    """8 hex digits of the seal of a run's checkpoint; ConfigError if the folder has none."""
    path = folder / files.CHECKPOINT
    try:
        return seal_of(path)[:8]
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"init_from={folder}: no run's checkpoint is at {path.absolute()}") from None


def names_file(key: str, value: Any) -> bool:
    """Whether a setting of the data names a file of the user's, such as data.path: other content, other run."""
    return key.startswith("data.") and isinstance(value, str) and bool(Path(value).suffix) and Path(value).is_file()


def content_hash(path: Path) -> str:
    """8 hex digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def changed_files(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The files whose content alone tells two identities apart; none if they differ in anything else."""
    keys = [key for key in {*before, *now} if before.get(key) != now.get(key)]
    names = {key: [str(each.get(key)).rpartition(" ")[0] for each in (before, now)] for key in keys}
    same = all(key.startswith("data.") and old == new != "" for key, (old, new) in names.items())
    return sorted(new for _, new in names.values()) if same else []


def stale_files(identity: Mapping[str, Any]) -> list[str]:
    """The files that a run read whose content is another one now."""
    named = {key: value.rpartition(" ") for key, value in identity.items() if isinstance(value, str) and " " in value}
    read = [(name, hashed) for key, (name, _, hashed) in named.items() if names_file(key, name)]
    return [name for name, hashed in read if content_hash(Path(name)) != hashed]


def digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def run_id(settings: Settings, identity: Mapping[str, Any]) -> str:
    """A readable name that ends with the 8 hex digits of the identity's digest."""
    words = [settings.model.name, settings.data.name]
    if settings.solver:
        step = f"tol{settings.solver.rtol:g}" if settings.solver.dt is None else f"dt{settings.solver.dt:g}"
        words += [settings.solver.name, step]
    if settings.gradient:
        words.append(settings.gradient.name)
    said = {word: identity[key] for key, word in IN_NAMES.items() if identity.get(key) is not None}
    words += [f"{word}{value:g}" if isinstance(value, float) else f"{word}{value}" for word, value in said.items()]
    return "-".join([*words, digest(identity)])


def data_of(identity: Mapping[str, Any]) -> str:
    """The data set with the options that define it; errors on another one are not comparable."""
    own = [f"{key}={v}" for key, v in sorted(identity.items()) if key.startswith("data.") and key not in OF_TRAINING]
    return " ".join([str(identity.get("data.name")), *own])


def values_by_key(settings: Any) -> dict[str, Any]:
    """Settings by dotted key, as they will be read back: tuples as lists, and words for what JSON has no number for."""
    nested = json.loads(json.dumps(asdict(settings)), parse_constant=str)
    return {key.replace(".options.", ".").replace(".user_class", ".class"): v for key, v in flat(nested).items()}


def settings_by_key(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as a command line names them: ``model``, ``optimizer.lr``, ``tolerance``.

    The tolerance is that of the solver, None with fixed steps.
    """
    settings = {key.removesuffix(".name"): value for key, value in values.items()}
    return settings | {"tolerance": values.get("solver.rtol")}


def hyper_parameters(settings: Settings) -> dict[str, Any]:
    """The settings that a run's outcome depends on, by the key of a command line, the most telling ones first."""
    facts = {f"model.{fact}" for fact in facts_of(GROUPS["model"])}  # nobody can set them
    values = settings_by_key(values_by_key(settings))
    told = [key for key in values if key not in NOT_IN_IDENTITY | facts]
    return {key: values[key] for key in dict.fromkeys([*FIRST, *told]) if key in values}
