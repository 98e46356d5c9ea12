"""The pages that come from the code are current, and the examples run."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

from noderun.cli.launching import own_or
from noderun.cli.planning import plan
from noderun.config import config_folder
from noderun.config.compose import Composer

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_the_api_page_is_current():
    generated = runpy.run_path(str(ROOT / "docs/make_api.py"))["page"]()
    assert (ROOT / "docs/api.md").read_text() == generated, "run `make api`"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_and_leave_their_figure(path, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.setattr(sys, "argv", [str(path), str(tmp_path), "2"])
    runpy.run_path(str(path), run_name="__main__")
    assert (tmp_path / f"{path.stem}.png").stat().st_size > 10_000


def test_the_library_page_runs_from_top_to_bottom(monkeypatch):
    torch.manual_seed(0)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/library.md").read_text(), flags=re.S | re.M)
    page: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), page)
    assert len(blocks) > 8


def test_the_search_of_the_cluster_page_runs(tmp_path, monkeypatch, restored_process):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/cluster.md").read_text(), flags=re.S | re.M)
    short = block.replace("STEPS, TRIALS = 200, 20", "STEPS, TRIALS = 1, 2")
    page: dict[str, object] = {}
    exec(compile(short, "docs/cluster.md", "exec"), page)
    assert page["study"].best_value > 0 and len(list(tmp_path.glob("outputs/search/*/result.json"))) == 2


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def commands_of(page):
    """The lines that a shell is given: in an indented block or one for a shell, with those that they go on in."""
    text = page.read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if re.match(r"(    )?(noderun|pip|make|torchrun) ", line)]


def test_no_command_of_a_page_is_a_pattern_of_zsh():
    """Unquoted, zsh looks for files by [5,9], * and ?, and stops if there are none."""
    found = {page.name: commands_of(page) for page in PAGES}
    assert sum(map(len, found.values())) > 100 and len(found["README.md"]) > 4
    words = {(name, QUOTED.sub("", line).partition(" #")[0]) for name, lines in found.items() for line in lines}
    assert not [(name, line) for name, line in words if re.search(r"[][*?]", line)]


COMMAND = re.compile(r"(?:^|`|\| |# +) *(noderun (?:train|sweep|compare) [^`|#]*)")
ELSEWHERE = (" --", "FOLDER", "RUN_ID", "NAME", "...", "&", "device=cuda", "wandb", "mlflow")


@pytest.mark.long
def test_each_command_that_a_page_names_is_planned():
    """Of pages and experiments, where it needs nothing that is not here; a refused job is a page's mistake."""
    pages = [*PAGES, *sorted((ROOT / "configs/experiment").rglob("*.yaml"))]
    lines = [line for page in pages for line in page.read_text().replace("\\\n", " ").splitlines()]
    found = {match.strip().rstrip(".:") for line in lines for match in COMMAND.findall(line)}
    here = sorted(command for command in found if not any(word in command for word in ELSEWHERE))
    assert len(here) > 80
    refused = {}
    for command in here:
        _, task, *words = shlex.split(command)
        planned = own_or("plan", task, plan)(Composer(task, [config_folder()]), words, task != "train")
        refused |= {(command, job.run_id): job.refusal for job in planned.jobs if job.refusal}
    assert not refused
