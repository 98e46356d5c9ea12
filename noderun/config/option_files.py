"""The files of a user's options, which are read strictly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from noderun.config.validation import ConfigError
from noderun.config.yaml_files import read_mapping


class Repository(ConfigRepository):
    """Hydra's; a file that is not ours is read strictly first, so that what is wrong has its file and line."""

    shipped: str  # where our own files lie

    def __deepcopy__(self, memo: dict[int, Any]) -> Repository:
        """Hydra makes a copy for each composition, to give it other sources: those that there are need none."""
        twin = copy.copy(self)
        twin.sources = list(self.sources)
        return twin

    def load_config(self, config_path: str) -> Any:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() != "file" or source.path == self.shipped:
            return super().load_config(config_path)
        path = Path(source.path, config_path).with_suffix(".yaml")
        read_mapping(path)
        try:
            return super().load_config(config_path)
        except (HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
            reason = first_line(error) if str(error) else "its defaults list holds what is not group: option"
            raise ConfigError(f"{path}: {reason}") from None


def first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines() or [type(error).__name__]
    return text[0].rstrip(".")
