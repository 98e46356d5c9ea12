"""A user's own code: ``class: my_module:MyClass`` in a config file."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from noderun.config.validation import ConfigError, nearest

_folders: list[str] = []


def search_in(folders: Iterable[str]) -> None:
    """Set the folders in which modules of ``class:`` are looked up, in this order."""
    _folders[:] = [str(Path(folder).resolve()) for folder in folders]


def searched() -> list[str]:
    """The folders that ``search_in`` set."""
    return list(_folders)


def source_hash(reference: str) -> str:
    """8 hex digits of the source file that holds the class: other source, other run."""
    module, _ = _parts(reference)
    _reach(module.partition(".")[0], reference)
    try:
        spec = find_spec(module)  # of a module in a package: imports the package
    except ModuleNotFoundError:
        spec = None
    except Exception as error:
        raise _broken(reference, error) from None
    if spec is None:
        raise ConfigError(f"class: {reference}: no module '{module}' in the config folder or {Path.cwd()}")
    if spec.origin is None or not spec.has_location:
        raise ConfigError(f"class: {reference}: module '{module}' has no source file")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:8]


def load(reference: str) -> Any:
    """The class (or function) that ``module:Name`` names."""
    module, name = _parts(reference)
    source_hash(reference)  # says what is missing
    found = _imported(module, reference)
    if not hasattr(found, name):
        raise ConfigError(f"class: no '{name}' in {found.__file__}{nearest(name, _public(found))}")
    return getattr(found, name)


def _reach(name: str, reference: str) -> None:
    """Append the folder that holds a module to sys.path, so that nothing else in it hides what others import."""
    usual = _importable(name)
    for folder in _folders:
        own = PathFinder.find_spec(name, [folder])
        if own is None or (own.origin is None and usual):  # a folder without __init__.py gives way to a module
            continue
        if usual and usual.origin and own.origin and Path(usual.origin).resolve() != Path(own.origin):
            raise ConfigError(
                f"class: {reference}: {own.origin} would hide the module '{name}' that others import "
                f"({usual.origin}); give yours another name"
            )
        if folder not in sys.path:
            sys.path.append(folder)
        return


def _importable(name: str) -> ModuleSpec | None:
    """What ``import name`` finds without the user's folders."""
    return next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, None))), None)


def _imported(module: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _broken(reference, error) from None


def _broken(reference: str, error: BaseException) -> ConfigError:
    """The error that a user's module raised while it was imported, with its line."""
    if isinstance(error, SyntaxError):
        return ConfigError(f"class: {reference}: {error.filename}:{error.lineno}: {error.msg}")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return ConfigError(f"class: {reference}: {frames[-1].filename}:{frames[-1].lineno}: {reason}")


def _public(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def _parts(reference: str) -> tuple[str, str]:
    module, colon, name = reference.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ConfigError(f"class must be module:Name, not '{reference}'")
    return module, name
