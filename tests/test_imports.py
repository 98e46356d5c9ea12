"""The import direction that docs/architecture.md states, read off the sources."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "noderun").rglob("*.py"))
LAYERS = re.findall(r"^    ([a-z_]+)/? {2,}\S", (ROOT / "docs/architecture.md").read_text(), flags=re.MULTILINE)


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, functions=True):
    """Names of the modules that a file imports; with functions=False only those at module level."""
    found = set()
    pending = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "noderun"}
        if functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend(ast.iter_child_nodes(node))
    return found


def layer(name):
    return name.split(".")[1] if name.count(".") else None


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_imports_go_down_the_list(path):
    own = layer(module(path))
    if own is None:
        return  # noderun/__init__ is the lazy front
    assert own in LAYERS, f"{own} is not in docs/architecture.md"
    for name in imports(path):
        if name.startswith("noderun.") and layer(name) != own:
            assert LAYERS.index(layer(name)) > LAYERS.index(own), (
                f"{module(path)} imports {name}, which stands above it"
            )


@pytest.mark.parametrize("path", [path for path in SOURCES if layer(module(path)) == "ode"], ids=module)
def test_the_library_imports_nothing_else_of_ours(path):
    assert not [name for name in imports(path) if name.startswith("noderun.") and layer(name) != "ode"]


def test_torchvision_is_imported_in_one_module_inside_functions():
    importers = [path for path in SOURCES if any(name.split(".")[0] == "torchvision" for name in imports(path))]
    assert len(importers) == 1 and layer(module(importers[0])) == "data"
    assert not any(name.split(".")[0] == "torchvision" for name in imports(importers[0], functions=False))


HEAVY = {"torch", "torchvision", "hydra", "omegaconf", "numpy", "matplotlib"}


@pytest.mark.parametrize("start", ["record.run_folder", "report", "config.schema", "cli.main"])
def test_light_modules_reach_nothing_heavy_when_imported(start):
    allowed = {"report": {"numpy", "matplotlib"}}.get(start, set())
    reached, pending = set(), [path for path in SOURCES if f"{module(path)}.".startswith(f"noderun.{start}.")]
    assert pending, f"noderun has no {start}"
    while pending:
        names = imports(pending.pop(), functions=False)
        assert not {name.split(".")[0] for name in names} & (HEAVY - allowed)
        new = {path for path in SOURCES if module(path) in names} - reached
        reached |= new
        pending.extend(new)


def test_the_command_line_imports_nothing_of_ours_before_it_knows_the_task():
    names = imports(ROOT / "noderun/cli/main.py", functions=False)
    assert not [name for name in names if name.split(".")[0] == "noderun"]


OWN = {name for path in SOURCES for name in re.findall(r"(?:def |self\.)(_[a-z]\w*)", path.read_text())}


def private_names(path):
    """Names with a leading underscore in a module that imports torch, but for those that noderun itself defines."""
    if not any(name.split(".")[0] == "torch" for name in imports(path)):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from re.findall(r"\b_[a-z]\w*", " ".join([node.module, *(alias.name for alias in node.names)]))
        elif isinstance(node, ast.Attribute) and re.match(r"_[A-Za-z]", node.attr) and node.attr not in OWN:
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"torch(?:\.\w+)*\.(_\w+)", node.value)


def test_what_is_private_in_torch_stands_in_one_module():
    named = {module(path): private for path in SOURCES if (private := sorted(set(private_names(path))))}
    assert list(named) == ["noderun.ode.solvers.torch_internals"], named
