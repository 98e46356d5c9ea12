"""A composed configuration as plain values, by its first level or by dotted keys."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from noderun.config.option_files import first_line
from noderun.config.validation import ConfigError, flat


def resolved(config: DictConfig) -> dict[str, Any]:
    """Everything but Hydra's own node as plain values; ConfigError if a reference leads nowhere."""
    try:
        return {key: plain(config, key, True) for key in map(str, config) if key != "hydra"}
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from None


def value_of(config: DictConfig, key: str) -> Any:
    """The value of a dotted key, None if there is no such key; ConfigError if a reference leads nowhere."""
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}: {first_line(error)}") from None


def unresolved(config: DictConfig) -> dict[str, Any]:
    """Dotted key -> value as written, so that a reference differs from the number that it leads to."""
    return flat({key: plain(config, key, False) for key in map(str, config) if key != "hydra"})


def without(config: DictConfig, keys: Sequence[str]) -> DictConfig:
    """The configuration without these dotted keys."""
    if not keys:
        return config
    left: DictConfig = copy.deepcopy(config)
    OmegaConf.set_struct(left, False)
    for key in keys:
        parent, _, leaf = key.rpartition(".")
        node: Any = OmegaConf.select(left, parent) if parent else left
        node.pop(leaf, None)
    return left


def known_keys(config: DictConfig) -> set[str]:
    """All dotted keys, and the groups that they are in."""
    keys = set(unresolved(config))
    return keys | {key[:i] for key in keys for i, letter in enumerate(key) if letter == "."}


def plain(config: DictConfig, key: str, resolve: bool) -> Any:
    """The value of a key of the first level as plain Python."""
    node: Any = config._get_node(key)
    if OmegaConf.is_config(node) and not OmegaConf.is_interpolation(config, key):
        return OmegaConf.to_container(node, resolve=resolve, throw_on_missing=resolve)
    return config[key] if resolve or node is None else node._value()
