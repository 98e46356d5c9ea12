"""The tutorials run: each block of Python prints what the page shows below it, and each command works.

A page is read from top to bottom. A comment `<!-- short: WORDS -->` in front of a block of commands says what is
appended to each of them to make it short; the test marked `long` leaves that out. Below a block of commands without the
comment, each line that is shown must be in the output. FOLDER is the folder of the last training, and a file that the
page names (`mine/...`) is written.
"""

import contextlib
import io
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pytest
import torch

from noderun.cli.main import main

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [*sorted((DOCS / "tutorials").glob("*.md")), DOCS / "ledger.md"]
BLOCK = re.compile(
    r"(?:^<!-- short:(?P<short>.*?)-->\n)?(?:^`(?P<file>mine/[\w/.]+)`\n\n)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.S | re.M,
)
TRAINS = ("train", "sweep", "compare")


@dataclass
class Block:
    language: str
    text: str
    short: str | None  # what makes its commands short, None if they run as they stand
    file: str | None

    @property
    def commands(self) -> list[str]:
        return self.text.replace("\\\n", " ").splitlines()


def blocks(page: Path) -> Iterator[Block]:
    return (Block(**match.groupdict()) for match in BLOCK.finditer(page.read_text()))


def printed_by(action, *given) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        action(*given)
    return out.getvalue()


def same(shown: str, printed: str) -> None:
    assert shown == printed


def contained(shown: str, printed: str) -> None:
    assert [line for line in shown.splitlines() if line not in printed] == []


def ignored(shown: str, printed: str) -> None:
    """A shortened training ends with other numbers."""


class Reader:
    """Does in the current folder what a page says, block by block."""

    def __init__(self, full: bool) -> None:
        self.full = full
        self.names: dict[str, object] = {"__name__": "page"}
        self.folder = "no training so far"
        self.printed, self.compare = "", ignored

    def read(self, block: Block) -> None:
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            self.printed = printed_by(exec, compile(block.text, "page", "exec"), self.names)
            self.compare = same
        elif block.language == "sh":
            short = "" if self.full else block.short or ""
            self.printed = "".join(self.run(command, shlex.split(short)) for command in block.commands)
            self.compare = contained if block.short is None else ignored
        elif block.language == "text":
            self.compare(block.text, self.printed)

    def run(self, command: str, short: list[str]) -> str:
        program, task, *words = shlex.split(command.replace("FOLDER", self.folder), comments=True)
        assert program == "noderun"

        def act() -> None:
            assert main([task, *words, *short]) == 0, command

        out = printed_by(act)
        if task in TRAINS:
            self.folder = out.splitlines()[-1]
        return out


@pytest.fixture
def folder(tmp_path, monkeypatch, restored_process):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]  # another test may have a module of the same name


def read(page: Path, full: bool) -> None:
    reader = Reader(full)
    for block in blocks(page):
        reader.read(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, folder):
    read(page, full=False)


@pytest.mark.long
@pytest.mark.parametrize(
    "page", [page for page in PAGES if "<!-- short:" in page.read_text()], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_run_in_full(page, folder):
    read(page, full=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_need_no_other_quotes_in_zsh(page):
    commands = [command for block in blocks(page) if block.language == "sh" for command in block.commands]
    bare = [re.sub(r"'[^']*'", "", command.partition("#")[0]) for command in commands]
    assert [command for command in bare if re.search(r"[\[\]()*?~]", command)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_figures_are_there(page):
    words = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", words)]
    assert [target for target in targets if ":" not in target and not (page.parent / target).exists()] == []
