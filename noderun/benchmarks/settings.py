"""The typed settings of `noderun bench`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from noderun.config.options import Data
from noderun.config.options.types import Count, Device, FigureFormat, FolderName, Positive
from noderun.config.schema import typed_group
from noderun.config.validation import ConfigError, as_type

NOT_IN_IDENTITY = {"log", "fresh", "name", "figure_format", "data.root", "data.download"}


@dataclass(frozen=True)
class Settings:
    """All settings; ``data`` is for the suite epoch."""

    data: Data
    suite: Literal[
        "all", "solve", "gradient", "training", "startup", "memory", "epoch", "gpu", "flows", "series", "stochastic"
    ] = "all"
    rounds: Count = 5
    seconds: Positive = 0.2
    quick: bool = False
    threads: Count | None = None
    device: Device = "auto"
    log: Literal["live", "plain", "quiet"] = "live"
    name: FolderName | None = None
    figure_format: FigureFormat = "png"
    fresh: bool = True
    seed: int = 0


def typed(config: Mapping[str, Any], usual: Mapping[str, Any]) -> Settings:
    """Type a resolved configuration; ``usual`` holds the defaults of the same options. Raises ConfigError."""
    hints = get_type_hints(Settings, include_extras=True)
    names = [f.name for f in fields(Settings) if f.name in config and f.name != "data"]
    values = {name: as_type(hints[name], config[name], name) for name in names}
    settings = Settings(typed_group("data", config["data"], usual["data"]), **values)
    if settings.suite == "epoch":
        from noderun.data import SETS

        if settings.data.name not in SETS or SETS[settings.data.name].sample != "image":
            name = settings.data.name
            raise ConfigError(f"suite=epoch trains on images, which data={name} has not: use data=mnist5k")
    return settings
