"""Where Hydra finds the options that ``noderun.config.options`` declares (Hydra finds plugins in this place only).

Not its ConfigStore: a user's file of the same name would be merged with what is stored there instead of replacing it.
"""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin


class DeclaredOptions(SearchPathPlugin):
    """Adds the declared options to the search path of noderun's own tasks, behind the first folder of files."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if "noderun.config.compose" in sys.modules:  # another program that uses Hydra does not see them
            search_path.append("noderun", "noderun://options")


class OptionSource(ConfigSource):
    @staticmethod
    def scheme() -> str:
        return "noderun"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        from noderun.config.options import OPTIONS

        return config_path in ("", *OPTIONS)

    def is_config(self, config_path: str) -> bool:
        from noderun.config.options import OPTIONS

        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return name in OPTIONS.get(group, {})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        from noderun.config.options import OPTIONS

        kind = ObjectType.CONFIG if config_path else ObjectType.GROUP
        return sorted(OPTIONS[config_path] if config_path else OPTIONS) if results_filter in (None, kind) else []

    def load_config(self, config_path: str) -> ConfigResult:
        from omegaconf import OmegaConf

        from noderun.config.options import OPTIONS
        from noderun.config.options.option import node

        if not self.is_config(config_path):
            raise ConfigLoadError(f"no option {config_path}")
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        config = OmegaConf.create(node(OPTIONS[group][name], name))
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header={"package": None})
