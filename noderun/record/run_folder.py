"""Run folders: what they hold, whether it is whole, and who works in them."""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from noderun.config.schema import Settings
from noderun.config.validation import ConfigError
from noderun.record import files
from noderun.record.run_identity import values_by_key
from noderun.record.seal import unsealed


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
    run = {"identity": dict(identity), "settings": values_by_key(settings), "date": date}
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
