"""`noderun runs` and `noderun.load_runs`: what is shown of runs, and how they are found."""

import csv
import io
import json
import sys

import pytest
from fabricated import fabricate, tolerance_grid
from rich.console import Console

import noderun
from noderun.cli.main import main
from noderun.report import cells


def runs(*words):
    return main(["runs", *map(str, words)])


@pytest.fixture
def place(tmp_path):
    """Eight runs that differ in tolerance, gradient and seed, and one with fixed steps that was stopped."""
    tolerance_grid(tmp_path / "sweep/grid", settings={"optimizer.lr": 0.001, "model.stem": "conv"})
    fixed = {"solver.dt": 0.25, "optimizer.lr": 0.01, "model.stem": "none"}
    fabricate(tmp_path / "train/euler", status="interrupted", settings=fixed, solver="euler", rtol=None, seed=3)
    return tmp_path


def found(capsys, *words):
    assert runs("--root", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["tolerance=0.1"], 4),
        (["tolerance=1e-1", "gradient=adjoint"], 2),
        (["optimizer.lr=0.01"], 1),
        (["lr=0.01"], 1),
        (["dt=0.25"], 1),
        (["tolerance=null"], 1),
        (["model.stem=conv", "seed=1"], 4),
        (["status=interrupted"], 1),
    ],
)
def test_any_setting_filters(words, count, place, capsys):
    assert len(found(capsys, place, *words)) == count


def test_any_setting_sorts(place, capsys):
    for key, first in (("-optimizer.lr", 0.01), ("lr", 0.001)):
        assert found(capsys, place, "--sort", key)[0]["optimizer.lr"] == first


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["lrr=1"], "no run has 'lrr'"),
        (["tolerence=1"], "did you mean 'tolerance'?"),
        (["--sort", "-errr"], "no run has 'errr'"),
    ],
)
def test_a_key_that_no_run_has_is_one_sentence(words, sentence, place, capsys):
    assert runs("--root", place, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and len(err.splitlines()) == 1 and len(err) < 300


def test_there_must_be_a_folder(tmp_path, capsys):
    assert runs("--root", tmp_path / "none") == 2
    assert "no folder" in capsys.readouterr().err
    assert runs("--root", tmp_path) == 0 and "no such run" in capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_keeps_whole_cells_and_names_what_it_leaves_out(width, place, monkeypatch, capsys):
    monkeypatch.setattr(cells, "stdout", lambda: Console(file=sys.stdout, width=width))
    assert runs("--root", place) == 0
    *lines, left_out = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines) and "…" not in "".join(lines)
    assert len([line for line in lines if "│" in line]) == 9
    assert left_out.startswith("no room for: ") and "folder" in left_out
    shown = {line.split("│")[1].strip() for line in lines if "│" in line}
    assert shown == {row["digest"] for row in noderun.load_runs(place)}


def test_the_table_shows_what_varies(place, capsys):
    assert runs("--root", place) == 0
    heading = [cell.strip() for cell in capsys.readouterr().out.splitlines()[1].strip("┃").split("┃")]
    assert {"digest", "tolerance", "dt", "lr", "gradient", "seed", "test error", "status", "date", "folder"} <= {
        *heading
    }
    assert not {"model", "data"} & {*heading}
    assert runs("--root", place, "dt=0.25") == 0  # of one run, all that applies
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("euler", "2026-01-02 03:04", str(place / "train/euler")))


def test_tables_for_a_spreadsheet_and_for_a_paper(place, capsys):
    assert runs("--root", place, "--csv", "tolerance=0.1") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["optimizer.lr"] for row in rows} == {"0.001"} and len(rows) == 4
    assert runs("--root", place, "--latex", "--sort", "-test_error") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(r"\begin{tabular}{") and len([line for line in lines if line.endswith(r"\\")]) == 10
    assert any(r"6.00\%" in line for line in lines)


def test_runs_as_rows(place):
    rows = noderun.load_runs(place)
    assert rows == noderun.load_runs(str(place)) and len(rows) == 9
    assert {(row["model"], row["tolerance"], row["solver.dt"]) for row in rows} == {
        ("odenet", 0.1, None), ("odenet", 0.001, None), ("odenet", None, 0.25)
    }  # fmt: skip
    with pytest.raises(ValueError, match="no folder"):
        noderun.load_runs(place / "none")
