"""A user's own dynamics, data or model: ``class: my_module:MyClass`` in a config file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from noderun.words import SettingError, nearest


def search_in(folders: Iterable[str]) -> None:
    """Lets modules be found in ``folders``, the first one first, before anything installed."""
    paths = [str(Path(folder).resolve()) for folder in folders]
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]


def source_hash(reference: str) -> str:
    """8 hex digits of the source file that holds the class: other source, other run."""
    module, _ = _parts(reference)
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise SettingError(f"class: {reference}: no module '{module}' in the config folder or {Path.cwd()}")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:8]


def load(reference: str) -> Any:
    """The class (or function) that ``module:Name`` names."""
    module, name = _parts(reference)
    source_hash(reference)  # says what is missing
    found = importlib.import_module(module)
    if not hasattr(found, name):
        raise SettingError(f"class: no '{name}' in {found.__file__}{nearest(name, _public(found))}")
    return getattr(found, name)


def _public(module: Any) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def _parts(reference: str) -> tuple[str, str]:
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise SettingError(f"class must be module:Name, not '{reference}'")
    return module, name
