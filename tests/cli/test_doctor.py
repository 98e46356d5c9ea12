"""What `noderun doctor` says of the packages that it finds."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from noderun.cli.tasks import doctor

WINDOW = next(
    text
    for text in tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["dependencies"]
    if text.startswith("torch>")
)


@pytest.mark.parametrize(
    ("version", "mark"), [("2.10.0", "!!"), ("2.11.0+cu130", "ok"), ("2.15.3", "ok"), ("2.16.0", "!!")]
)
def test_the_window_of_torch_is_named_and_compared(version, mark, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: [WINDOW, "torchode; extra == 'bench'", "rich"])
    found, _, said = doctor.name_and_version("torch", version, doctor.tested().get("torch"))
    assert found == mark and version in said and "<2.16,>=2.11" in said


def test_the_torch_that_runs_these_tests_lies_in_the_window():
    window = doctor.Requirement(WINDOW).specifier
    assert window.contains(metadata.version("torch")), f"torch {metadata.version('torch')} was never tested: {window}"
