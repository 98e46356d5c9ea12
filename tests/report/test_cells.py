"""Tables in little room: parts below one another, whole numbers, nothing left out."""

import io
import re

import pytest
from rich.console import Console

from noderun.report import cells
from noderun.report.cells import drawn, folded, latex

HEADINGS = ["tolerance", "test error", "saved for backward (MiB)", "numerical error", "reason"]
REASON = "the step size fell to 0.0e+00: the tolerance cannot be met (t = 0, after 2 steps); try a larger one"
ROWS = [
    [("0.1", False), ("82.64% ± 1.23%", True), ("1,234,567.89", False), ("1.8e-02", False), ("-", False)],
    [("0.001", False), ("2.27%", False), ("0.00", False), ("1.8e-04", False), (REASON, False)],
]


def text(parts, room):
    console = Console(file=io.StringIO(), width=room)
    for part in parts:
        console.print(drawn(part))
    return console.file.getvalue()


@pytest.mark.parametrize("room", [30, 60, 80, 110, 240])
def test_no_cell_is_cut_whatever_the_width(room):
    shown = text(folded(HEADINGS, ROWS, room), room)
    assert all(len(line) <= room for line in shown.splitlines()) and "…" not in shown
    for row in ROWS:
        for cell, _ in row[:-1]:
            assert f" {cell} " in shown, cell
    words = re.findall(r"[^\s│┃]+", shown)
    assert set(REASON.split()) <= set(words)


def test_headings_break_before_the_table_does():
    assert [len(folded(HEADINGS, ROWS, room)) for room in (240, 110, 60)] == [1, 1, 2]
    (whole,), (broken,) = folded(HEADINGS, ROWS, 240), folded(HEADINGS, ROWS, 110)
    assert whole.headings == broken.headings == HEADINGS and broken.widths[2] == len("1,234,567.89")
    parts = folded(HEADINGS, ROWS, 60)
    assert [part.headings[0] for part in parts] == ["#"] * 2
    assert [heading for part in parts for heading in part.headings[1:]] == HEADINGS
    assert [[row[0][0] for row in part.rows] for part in parts] == [["1", "2"]] * 2


def test_a_pipe_gets_whole_lines(capsys):
    cells.print_table(HEADINGS, ROWS)
    assert REASON in capsys.readouterr().out


def test_latex_escapes_what_means_something_to_it():
    table = latex(["model", "test error"], [[("a_b & c", False), ("5.50% ± 0.71%", True)]])
    assert table.splitlines() == [
        r"\begin{tabular}{lr}", r"\toprule", r"model & test error \\", r"\midrule",
        r"a\_b \& c & \textbf{5.50\% $\pm$ 0.71\%} \\", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip
