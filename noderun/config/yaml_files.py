"""YAML files written by hand or by a stranger: their content, or one sentence with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from noderun.config.validation import ConfigError

if TYPE_CHECKING:
    import yaml

TAGS = {f"tag:yaml.org,2002:{name}" for name in "map seq str int float bool null timestamp merge".split()}
MAX_VALUES = 10_000  # values, with every alias written out: a few lines of aliases of aliases would fill the memory


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a file holds, {} if the file is empty; ConfigError if it holds anything else."""
    import yaml

    line: int | None = None
    try:
        text = path.read_text("utf-8")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise yaml.MarkedYAMLError(problem="expected a mapping, key: value", problem_mark=node.start_mark)
        _size(node, {})
        content: dict[str, Any] = loader.construct_document(node)
        return content
    except yaml.MarkedYAMLError as error:
        line, reason = (error.problem_mark or error.context_mark).line + 1, str(error.problem or error.context)
        reason = f"{error.context} {reason}" if reason.startswith("but ") else reason
    except yaml.reader.ReaderError as error:
        line, reason = text.count("\n", 0, error.position) + 1, f"the character #x{error.character:04x} is not allowed"
    except UnicodeDecodeError as error:
        line, reason = error.object.count(b"\n", 0, error.start) + 1, "it is not in UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except OSError as error:
        reason = str(error.strerror)
    except (ValueError, TypeError, KeyError) as error:  # a tag such as !!int before a value of another type
        reason = str(error)
    raise ConfigError(f"{path}{'' if line is None else f':{line}'}: {reason}")


def _size(node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
    """The number of values under a node, each alias counted in full; YAMLError if an alias contains itself."""
    import yaml

    if node in sizes:
        if sizes[node] == 0:
            raise yaml.MarkedYAMLError(problem="an alias stands inside what it names", problem_mark=node.start_mark)
        return sizes[node]
    if node.tag not in TAGS:
        raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} means nothing here", problem_mark=node.start_mark)
    sizes[node] = 0  # as long as it is counted
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        inner = [value for _, value in node.value]
    else:
        inner = node.value if isinstance(node, yaml.SequenceNode) else []
    sizes[node] = 1 + sum(_size(value, sizes) for value in inner)
    if sizes[node] > MAX_VALUES:
        raise yaml.MarkedYAMLError(problem=f"it holds more than {MAX_VALUES} values", problem_mark=node.start_mark)
    return sizes[node]


def _check_keys(node: yaml.MappingNode) -> None:
    import yaml

    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:null":
            raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
        if key.value in seen:
            raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark)
        seen.add(key.value)
