"""What a command line may say, before torch is imported."""

from __future__ import annotations

from pathlib import Path


def config_folder() -> Path:
    """The folder of noderun's own configs: inside the package of a wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
