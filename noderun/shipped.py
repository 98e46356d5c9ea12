"""Where noderun's own configs lie."""

from __future__ import annotations

from pathlib import Path


def config_folder() -> Path:
    """The configs that a wheel put inside the package, or those beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
