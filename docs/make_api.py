"""Write docs/api.md from the signatures and docstrings of everything that `noderun` exports: `make api`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import noderun

PAGE = Path(__file__).with_name("api.md")
GROUPS = {
    "Solve": ["solve", "Solution", "BatchedSolution", "Statistics", "SampleStatistics", "Event", "Occurrences"],
    "Failures": ["SolveError", "NonFiniteDynamics", "StepUnderflow", "StepLimit", "NewtonDivergence"],
    "Choices": ["SOLVERS", "GRADIENTS", "CONTROLLERS"],
    "Stochastic equations": ["sdesolve", "SDESolution", "BrownianPath"],
    "As torchdiffeq": ["odeint", "odeint_adjoint", "odeint_event"],
}


def page() -> str:
    """The whole page; names that no group lists come last, so that none is missing."""
    listed = [name for names in GROUPS.values() for name in names]
    groups = {title: [name for name in names if name in noderun.PUBLIC] for title, names in GROUPS.items()}
    groups["Parts"] = [name for name in noderun.PUBLIC if name not in listed]
    parts = ["# API", "Generated from the docstrings by `make api`; `from noderun import NAME` imports any of these."]
    for title, names in groups.items():
        parts += [f"## {title}", *(entry(name, getattr(noderun, name)) for name in names)]
    return "\n\n".join(parts) + "\n"


def entry(name: str, value: Any) -> str:
    if isinstance(value, dict):
        rows = [f"| `{key}` | {getattr(info, 'description', '')} |" for key, info in value.items()]
        return "\n".join([f"### `{name}`", "", "| name | |", "|---|---|", *rows])
    text = inspect.cleandoc(value.__doc__ or "") if own_docstring(value) else ""
    parts = [f"### `{name}`", f"```python\n{signature(name, value)}\n```", text]
    if inspect.isclass(value):
        parts += [member(name, key, found) for key, found in vars(value).items() if documented(key, found)]
    return "\n\n".join(part for part in parts if part)


def own_docstring(value: Any) -> bool:
    """Whether the docstring was written: a dataclass without one gets its signature."""
    return not (dataclasses.is_dataclass(value) and (value.__doc__ or "").startswith(f"{value.__name__}("))


def documented(key: str, value: Any) -> bool:
    return (
        not key.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)) and bool(value.__doc__)
    )


def member(owner: str, key: str, value: Any) -> str:
    call = "" if isinstance(value, property) else signature("", value)
    return f"**`{key}{call}`** {inspect.cleandoc(value.__doc__)}"


def signature(name: str, value: Any) -> str:
    """One parameter per line if they do not fit on one line."""
    found = inspect.signature(value)
    parts: list[str] = []
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        if parameter.name != "self":
            parts.append(shown(parameter))
    returned = "" if found.return_annotation in (found.empty, "None") else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parts)}){returned}"
    return line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){returned}"


def shown(parameter: inspect.Parameter) -> str:
    annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    # functions by name: their addresses differ from run to run
    value = re.sub(r"<function (\w+) at 0x\w+>", r"\1", repr(parameter.default))
    default = "" if parameter.default is parameter.empty else f" = {value}"
    return {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "") + (
        f"{parameter.name}{annotation}{default}"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
