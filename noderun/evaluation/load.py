"""A finished run as objects, for a notebook or a script."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.schema import Settings
from noderun.config.user_code import search_in
from noderun.evaluation.trained import finished, load_setup, settings_of
from noderun.record import files


@dataclass(frozen=True)
class LoadedRun:
    """A finished run: its trained ``model`` in eval mode, its settings, and what it measured.

    ``metrics`` are the rows of metrics.jsonl, ``result`` is result.json.
    """

    folder: Path
    model: nn.Module
    settings: Settings
    metrics: list[dict[str, Any]]
    result: dict[str, Any]

    def curve(self, tag: str) -> tuple[list[int], list[float]]:
        """The steps and the values of one metric, such as ``loss/test``; KeyError if no row has it."""
        rows = [row for row in self.metrics if row.get(tag) is not None]
        if not rows:
            tags = sorted({key for row in self.metrics for key in row} - {"step", "epoch"})
            raise KeyError(f"no metric '{tag}' in {self.folder}; there are: {', '.join(tags)}")
        return [row["step"] for row in rows], [row[tag] for row in rows]


def composer_for(config_dir: str | Path | None, trust: bool) -> Composer:
    """What knows our options and a user's own, whose code it also makes importable; a run's too if it is trusted."""
    own = [Path(config_dir)] if config_dir else []
    search_in([*map(str, own), os.getcwd()])
    composer = Composer("train", [*own, config_folder()])
    composer.trusting = trust
    return composer


def load_run(
    folder: str | Path, *, device: str = "cpu", config_dir: str | Path | None = None, trust: bool = False
) -> LoadedRun:
    """Load a finished run from its folder.

    ``config_dir`` is the folder of a user's own options, as in ``noderun train --config-dir``: classes that only the
    run's stored configuration names are not imported, unless you ``trust`` it. The run's data set is read again,
    because the model is made for its shape. Raises ConfigError if the folder holds no finished run or this version
    cannot read it.
    """
    place = Path(folder)
    found = finished(place)
    settings = replace(settings_of(place, composer_for(config_dir, trust).allows), device=device)
    model = load_setup(place, settings).model
    rows = [json.loads(line) for line in (place / files.METRICS).read_text().splitlines()]
    return LoadedRun(place, model, settings, rows, dict(found.result))
