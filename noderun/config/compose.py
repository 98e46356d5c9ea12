"""Compose configurations exactly as Hydra does, without starting anything; each error is one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from noderun.config.composed import known_keys, plain, unresolved, without
from noderun.config.option_files import Repository, first_line
from noderun.config.options.option import facts_of
from noderun.config.schema import GROUPS, OWN_PARTS
from noderun.config.unknown_keys import FactGiven, UnknownKey
from noderun.config.validation import ConfigError, nearest, show

NOT_CHOICES = ("experiment",)  # what an experiment sets counts as given
OWN = (*OWN_PARTS, "problem")  # groups that take a class of the user's
LAUNCHERS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm"}  # launcher -> what installs it


class Composer:
    """Composes one task's configurations; ``folders`` are searched in their order."""

    def __init__(self, task: str, folders: Sequence[str | Path]) -> None:
        version.setbase("1.3")
        path = create_config_search_path(str(folders[0]))
        assert isinstance(path, ConfigSearchPathImpl)
        for folder in folders[1:]:
            path.get_path().insert(-1, _element(folder))
        self.task, self.folders = task, folders
        self.trusting = False  # set by --trust: code that only a run's folder names may run
        self.loader = ConfigLoaderImpl(config_search_path=path)
        self.loader.repository = Repository(path)
        self.loader.repository.shipped = str(folders[-1])
        self._loaded = lru_cache(4)(self._load_anew)  # nobody changes what these two return
        self._groups = cache(self._groups_of)
        self._defaults: dict[tuple[str, ...], DictConfig] = {}

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=self.loader)
        parsed = []
        for override in overrides:
            try:
                (found,) = parser.parse_overrides([override])
            except (HydraException, RecursionError):
                found = None
            if found is None or not found.key_or_group:
                raise ConfigError(f"cannot read '{override}'; expected key=value or group=option")
            if found.is_delete():
                raise ConfigError(f"{override}: {found.key_or_group} cannot be taken away; give it another value")
            parsed.append(found)
        return parsed

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration with its hydra node, unresolved; raises ConfigError."""
        for override in filter(self.chooses, self.parse(overrides)):
            if override.key_or_group not in self.groups() and _is_choice(override.key_or_group):
                raise ConfigError(self._not_here(override))
            if override.is_add():
                raise ConfigError(f"{override.input_line}: {override.key_or_group} already exists; leave the + out")
            value = override.value()
            option = value if isinstance(value, str) else show(value)
            if option is not value or ".." in option.split("/"):
                raise ConfigError(self._no_option(override.key_or_group, option))
        try:
            return self._load(overrides)
        except MissingConfigException as error:
            raise ConfigError(self._not_found(str(error.missing_cfg_file))) from None
        except (HydraException, OmegaConfBaseException) as error:
            raise self._explained(error, overrides) from None
        except RecursionError:
            raise ConfigError("the defaults lists of these options lead to one another in a circle") from None

    def defaults(self, choices: Mapping[str, Any]) -> DictConfig:
        """The configuration of the chosen options (group -> option) with all settings at their defaults."""
        chosen = choices.items()
        overrides = tuple(f"{group}={option}" for group, option in chosen if option and _is_choice(group))
        if overrides not in self._defaults:
            self._defaults[overrides] = self.compose(overrides)
        return self._defaults[overrides]

    def known(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """The configuration and its defaults; UnknownKey if it has a key that they do not have.

        What an experiment sets of an option in whose place the command line chose another is left out, if the other
        has no such setting.
        """
        config = self.compose(overrides)
        for group in map(str, config):
            node = plain(config, group, False)
            if group not in OWN and isinstance(node, dict) and "class" in node:
                raise ConfigError(f"{group} takes no class: of your own, only {', '.join(OWN)} do")
        if all(self.chooses(o) and _is_choice(o.key_or_group) for o in self.parse(overrides)):
            return config, config
        defaults = self.defaults(config.hydra.runtime.choices)
        unknown = sorted(unresolved(config).keys() - unresolved(defaults).keys())
        for key in unknown:
            if not self._is_anothers(key, config, overrides):
                raise self._unknown(key, known_keys(defaults))
        return without(config, unknown), defaults

    def _is_anothers(self, key: str, config: DictConfig, overrides: Sequence[str]) -> bool:
        """Whether a key is of the option that an experiment chose, and the command line chose another."""
        group, parsed = key.partition(".")[0], self.parse(overrides)
        given = [o.key_or_group for o in parsed if not self.chooses(o)]
        if any(f"{key}.".startswith(f"{name}.") for name in given):
            return False
        others = [str(o.input_line) for o in parsed if o.key_or_group != group]
        choices: Any = self.compose(others).hydra.runtime.choices
        return bool(choices.get(group) != config.hydra.runtime.choices.get(group))

    def groups(self, config: str | None = None) -> set[str]:
        """The groups of which this task chooses an option: those in the defaults list of its config file."""
        return self._groups(config or self.task)

    def _groups_of(self, config: str) -> set[str]:
        found = self.loader.repository.load_config(config)
        defaults = (found and found.defaults_list) or []
        inner = [self._groups(default.path) for default in defaults if isinstance(default, ConfigDefault)]
        return {str(default.group) for default in defaults if isinstance(default, GroupDefault)}.union(*inner)

    def chooses(self, override: Override) -> bool:
        """Whether it is group=option, rather than key=value."""
        return self.is_group(override.key_or_group) and not isinstance(override.value(), dict)

    def is_group(self, key: str) -> bool:
        return self.loader.repository.group_exists(key)

    def options(self, group: str) -> list[str]:
        """All options of a group, those in its subfolders as folder/option."""
        repository = self.loader.repository
        inner = repository.get_group_options(group, ObjectType.GROUP)
        own = repository.get_group_options(group, ObjectType.CONFIG)
        return own + [f"{name}/{option}" for name in inner for option in self.options(f"{group}/{name}")]

    def classes(self, group: str) -> set[str]:
        """Every class of the user's that an option of a group names."""
        loaded = [self.loader.repository.load_config(f"{group}/{option}") for option in self.options(group)]
        nodes: list[Any] = [option.config for option in loaded if option]
        nodes += [node["objective"] for node in nodes if isinstance(node.get("objective"), DictConfig)]
        return {str(node["class"]) for node in nodes if "class" in node}

    def allows(self, group: str, reference: str) -> bool:
        """Whether a class of the user's may be loaded though a run's folder asks for it."""
        return self.trusting or reference in self.classes(group)

    def _load(self, overrides: Sequence[str]) -> DictConfig:
        return self._loaded(tuple(overrides))

    def _load_anew(self, overrides: tuple[str, ...]) -> DictConfig:
        return self.loader.load_configuration(config_name=self.task, overrides=list(overrides), run_mode=RunMode.RUN)

    def _not_found(self, path: str) -> str:
        group = path.partition("/")[0] if not path.startswith("hydra/") else path.rpartition("/")[0]
        if self.is_group(group):
            return self._no_option(group, path.removeprefix(f"{group}/"))
        return f"no group '{group}'{nearest(group, [name for name in self.loader.list_groups('') if name != 'hydra'])}"

    def _not_here(self, override: Override) -> str:
        """The sentence about a group that only other tasks have."""
        group, line = override.key_or_group, override.input_line
        tasks = sorted(path.stem for folder in self.folders for path in Path(folder).glob("*.yaml"))
        takers = [
            task for task in ("train", *tasks) if task != self.task and group in Composer(task, self.folders).groups()
        ]
        instead = f"; did you mean `noderun {takers[0]} {line}`?" if takers else ""
        return f"{self.task} takes no {group}{instead}"

    def _no_option(self, group: str, option: str) -> str:
        if group == "hydra/launcher" and option in LAUNCHERS:
            return f"{group}={option} is not installed: pip install 'noderun[{LAUNCHERS[option]}]'"
        return f"no {group} '{option}'{nearest(option, self.options(group))}"

    def _unknown(self, key: str, known: Iterable[str]) -> ConfigError:
        group, _, leaf = key.partition(".")
        options = self.options(group) if leaf and group in self.groups() else []
        loaded = {option: self.loader.repository.load_config(f"{group}/{option}") for option in options}
        owners = [option for option, found in loaded.items() if found and leaf in found.config]
        if not owners and group in GROUPS and leaf in facts_of(GROUPS[group]):
            return FactGiven(key)
        return UnknownKey(key, known, owners)

    def _explained(self, error: Exception, overrides: Sequence[str]) -> ConfigError:
        cause = error.__cause__ or error
        key = getattr(cause, "full_key", None)
        if isinstance(cause, ConfigAttributeError | ConfigKeyError) and key:
            choices = [str(o.input_line) for o in self.parse(overrides) if self.chooses(o)]
            config = self._load(choices if choices != list(overrides) else [])
            known = known_keys(config) | {f"hydra.launcher.{name}" for name in config.hydra.launcher}
            return self._unknown(str(key), known)
        sentence = first_line(cause)
        return ConfigError(f"{key}: {sentence}" if key and str(key) not in sentence else sentence)


def _is_choice(group: str) -> bool:
    return not group.startswith("hydra") and group not in NOT_CHOICES and "@" not in group


def _element(folder: str | Path) -> Any:
    from hydra.core.config_search_path import SearchPathElement

    return SearchPathElement("noderun", f"file://{folder}")
