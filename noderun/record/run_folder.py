"""Run folders: the name of a run, its state, and the ledger of all runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from noderun.config.schema import Settings
from noderun.config.user_code import source_hash
from noderun.config.validation import ConfigError, flat
from noderun.record import files
from noderun.record.index import Index
from noderun.record.metric import know_those_of
from noderun.record.seal import unsealed

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
# settings that are part of a run's name if they are not their defaults; a schedule ends where the epochs do
IN_NAMES = {"optimizer.lr": "lr", "scheduler.horizon": "epochs", "seed": "seed"}


class FolderInUse(RuntimeError):
    """Another process works in a run's folder."""


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of this folder; FolderInUse if one works in it, unless ``wait`` is for its end.

    A killed process leaves no lock.
    """
    with (folder / files.LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise FolderInUse(f"another process works in {folder}; this one changed nothing there") from None
        yield


def check_free(folder: Path) -> None:
    """FolderInUse if another process works in this folder."""
    if (folder / files.LOCK).exists():
        with locked(folder):
            pass


def identity(settings: Any, defaults: Any, ignored: Collection[str], always: Collection[str] = ()) -> dict[str, Any]:
    """What makes a job the job that it is: the names of its choices, and the settings that are not their defaults.

    ``ignored`` names keys or whole groups that do not count, ``always`` keys that count whatever their value.
    """
    values, usual = _values(settings), _values(defaults)
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
    """8 hex digits of the SHA-256 with which a run's checkpoint ends; ConfigError if the folder has none."""
    path = folder / files.CHECKPOINT
    try:
        with path.open("rb") as file:
            file.seek(-64, os.SEEK_END)
            return file.read(8).decode("ascii")
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
    of_training = {"data.name", "data.class", "data.limit", "data.batch_size", "data.augment"}
    own = [f"{key}={v}" for key, v in sorted(identity.items()) if key.startswith("data.") and key not in of_training]
    return " ".join([str(identity.get("data.name")), *own])


def _values(settings: Any) -> dict[str, Any]:
    # as they will be read back: tuples as lists, and words for what JSON has no number for (nan is not even itself)
    nested = json.loads(json.dumps(asdict(settings)), parse_constant=str)
    return {key.replace(".options.", ".").replace(".user_class", ".class"): v for key, v in flat(nested).items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """All or nothing: a reader or a kill never meets half a file."""
    with files.replacing(path) as new:
        new.write_text(as_text(content))


def as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds, {} if there is none; ConfigError if it is damaged."""
    try:
        content = json.loads(path.read_text()) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path.absolute()} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path.absolute()} is damaged: it holds no mapping")
    return content


def write_status(folder: Path, status: str, identity: Mapping[str, Any], error: str | None = None) -> None:
    """status: running, done, failed or interrupted."""
    path, content = folder / files.STATUS, {"status": status, "error": error, "identity": dict(identity)}
    try:
        write_json(path, content)
    except OSError:
        if not path.is_file():
            raise
        with path.open("r+") as file:  # a full disk has room for what is written over the old status
            file.write(as_text(content))
            file.truncate()


def read_status(folder: Path) -> dict[str, Any]:
    """What status.json holds. If it is lost or damaged the run is as interrupted, its identity from environment.json.

    ConfigError if both are damaged; {} if there is neither.
    """
    damage: ConfigError | None = None
    try:
        if status := read_json(folder / files.STATUS):
            return status
    except ConfigError as error:
        damage = error
    try:
        known = read_json(folder / files.ENVIRONMENT).get("identity")
    except ConfigError:
        known = None
    if damage and not isinstance(known, dict):
        raise damage
    return {"status": "interrupted", "error": None, "identity": known} if isinstance(known, dict) else {}


def check_plain(folder: Path) -> None:
    """ConfigError if a name of a run's is a link, or no file or folder: what is written there would land elsewhere."""
    inside = [*(folder.iterdir() if folder.is_dir() else ()), *folder.glob(f"{files.FIGURES}/*")]
    for path in inside:
        if files.is_ours(path.name) or path.parent != folder:
            kind = path.lstat().st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise ConfigError(f"{path} is a link or a special file, which no run has made; take it away")


def check_readable(folder: Path) -> None:
    """ConfigError if nothing tells which run a folder holds, or if a name in it leads elsewhere."""
    check_plain(folder)
    try:
        read_status(folder)
    except ConfigError as error:
        raise ConfigError(f"{error}; fresh=true starts over") from None


def is_done(folder: Path, settings: Settings) -> bool:
    """Whether the folder holds a finished run at least as long as the settings ask for."""
    try:
        result, trainer = read_json(folder / files.RESULT), settings.trainer
    except ConfigError:  # the checkpoint has all of it
        return False
    if read_status(folder).get("status") != "done" or not result:
        return False
    if not (weights_are_whole(folder) and rows_are_whole(folder, result)):
        return False
    # a result without these keys is another version's: such a run is resumed and writes its result again
    steps, epochs = (int(result.get(key) or 0) for key in ("steps", "epochs"))
    if result.get("stopped_early") or (trainer.max_steps is not None and steps >= trainer.max_steps):
        return True
    if trainer.max_seconds is not None:
        return float(result.get("training_seconds") or 0) >= trainer.max_seconds
    return epochs >= trainer.epochs


def weights_are_whole(folder: Path) -> bool:
    """Whether the checkpoint is as it was written; somebody who has no use for it may have deleted it."""
    path = folder / files.CHECKPOINT
    return not path.exists() or unsealed(path) is not None


def rows_are_whole(folder: Path, result: Mapping[str, Any]) -> bool:
    """Whether metrics.jsonl ends with the row of the run's end; somebody may have deleted it as well."""
    path = folder / files.METRICS
    if not path.exists():
        return True
    content = path.read_bytes()
    try:
        return content.endswith(b"\n") and json.loads(content.splitlines()[-1])["step"] == result.get("steps")
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def check_may_clear(folder: Path) -> None:
    """ConfigError if a folder is neither empty nor a run's: what lies there is not ours to delete."""
    check_plain(folder)
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not (held <= files.OF_A_START or {files.HYDRA, files.STATUS} <= held):
        raise ConfigError(
            f"fresh=true starts over in a run's folder, and {folder} is not one: it has no {files.STATUS} and is not "
            "empty; give another folder, or fresh=false"
        )


def clear(folder: Path) -> None:
    """Delete what an earlier start left and nothing else; of a link, the link and not its target."""
    for path in folder.iterdir():
        if path.name in files.OF_A_START or not files.is_ours(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def differences(folder: Path, wanted: Mapping[str, Any]) -> list[str]:
    """Keys in which a folder's run differs from the wanted one; none if the folder holds no run."""
    found = read_status(folder).get("identity", wanted)
    return sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))


def environment(device: str, seed: int) -> dict[str, Any]:
    """What a run's numbers may depend on besides its command line."""
    import torch

    versions = {name: metadata.version(name) for name in ("noderun", "torch", "torchvision", "hydra-core", "numpy")}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts = {"python": platform.python_version(), "versions": versions, "platform": platform.platform(), "gpu": gpu}
    return facts | {"device": device, "threads": torch.get_num_threads(), "seed": seed, "commit": commit()}


def write_environment(folder: Path, settings: Settings, identity: Mapping[str, Any]) -> None:
    """The environment, which run it is, all of its settings, and when it was started for the last time."""
    date = datetime.now().astimezone().isoformat(" ", "minutes")
    run = {"identity": dict(identity), "settings": _values(settings), "date": date}
    write_json(folder / files.ENVIRONMENT, environment(settings.device, settings.seed) | run)


def write_command(folder: Path, command: str) -> None:
    """Leave in a grid's folder the command that makes it."""
    with files.replacing(folder / files.COMMAND) as new:
        new.write_text(f"{command}\n")


def commit() -> str | None:
    """The checkout's commit, with + if files were changed since; None if noderun is not a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+"]
    inside = (Path(__file__).parents[2] / ".git").exists() and shutil.which("git")
    found = subprocess.run(command, capture_output=True, text=True, check=False) if inside else None
    return found.stdout.strip() or None if found else None


def ledger(root: Path) -> Iterator[dict[str, Any]]:
    """One row per run under a folder: its folder, its state, and its result if it has one."""
    index = Index(root, ledger_row, __file__)
    for folder in folders(root):
        try:
            yield index.row(folder)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError, OSError):
            yield {"status": "damaged", "error": "its files cannot be read", "folder": str(folder)}
    index.save()


def load_runs(root: str | Path = "outputs") -> list[dict[str, Any]]:
    """Every run under a folder as a row: its settings by key (``optimizer.lr``), result, status, date and folder.

    The rows of ``noderun runs --json``; ``pandas.DataFrame(rows)`` makes a table of them. Raises ConfigError if there
    is no such folder.
    """
    if not Path(root).is_dir():
        raise ConfigError(f"no folder {Path(root).absolute()}, in which runs could be; root says where to look")
    return list(ledger(Path(root)))


def folders(root: Path) -> list[Path]:
    """The folders of all runs under a folder, however deep; measurements of a run are no runs."""
    found = (path.parent for path in sorted(root.rglob(files.STATUS)))
    return [folder for folder in found if folder.parent.name != files.EVALUATE]


def ledger_row(folder: Path) -> dict[str, Any]:
    check_plain(folder)
    status, start = read_json(folder / files.STATUS), read_json(folder / files.ENVIRONMENT)
    know_those_of(folder)
    known = status["identity"]
    place = {"status": status["status"], "error": status["error"], "date": start.get("date"), "folder": str(folder)}
    settings = settings_by_key(start.get("settings", {}) | known)
    return {"digest": digest(known)} | settings | read_json(folder / files.RESULT) | place


def settings_by_key(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as a command line names them: ``model``, ``optimizer.lr``, ``tolerance``.

    The tolerance is that of the solver, None with fixed steps.
    """
    settings = {key.removesuffix(".name"): value for key, value in values.items()}
    return settings | {"tolerance": values.get("solver.rtol")}
