"""Reports out of fabricated run folders: what is drawn, from which numbers, and what is refused."""

import csv
import json
import re

import pytest
from fabricated import RESULT, fabricate, tolerance_grid

from noderun.cli.main import main
from noderun.evaluation.rows import ROWS
from noderun.report.costs import scatter
from noderun.report.depth import draw_counts
from noderun.report.figures import FIGURES, draw_figures, names_of
from noderun.report.folders import labels, runs_of, told_apart_by
from noderun.report.paper_values import chen_table
from noderun.report.precision import in_order, matrix_rows
from noderun.report.style import figure, whole_numbers
from noderun.report.table import Spread, best, columns, over_seeds, show


def noderun(*words):
    return main(list(map(str, words)))


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_grid_has_its_figures_each_with_its_numbers(tmp_path):
    found = runs_of(tolerance_grid(tmp_path / "grid"))
    drawn = draw_figures(found, tmp_path / "figures")
    assert {path.stem for path in drawn} == {"learning", "nfe", "figure3", "memory", "nfe_loss"}
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG") and path.with_suffix(".csv").is_file()
    rows = read(tmp_path / "figures" / "figure3.csv")
    assert len(rows) == 8 and {float(row["nfe_forward"]) for row in rows} == {14.0, 38.0}
    assert {row["time/forward_ms"] for row in rows} == {"3.0"} and rows[0]["nfe_by_epoch"].startswith("1:")
    learning = read(tmp_path / "figures" / "learning.csv")
    assert {(row["epoch"], float(row["loss/test"])) for row in learning} == {("1", 1.1), ("2", 0.55)}


@pytest.mark.parametrize(("form", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures_are_vector_graphics_too_if_asked(form, start, tmp_path):
    folder = fabricate(tmp_path / "run")
    assert noderun("report", folder, "--figure", "nfe", "--format", form) == 0
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".csv", f".{form}"}
    assert (folder / "figures" / f"nfe.{form}").read_bytes().startswith(start)


def test_runs_are_called_by_what_tells_them_apart(tmp_path):
    found = runs_of(tolerance_grid(tmp_path))
    assert told_apart_by(found) == ["tolerance", "gradient", "seed"]
    assert set(labels(found)) == {f"tolerance {t:g}, {g}" for t in (0.1, 0.001) for g in ("adjoint", "backprop")}


def test_a_sweep_over_the_weight_of_a_regularizer_is_drawn(tmp_path):
    for weight, nfe in ((0, 38.0), (0.01, 20.0)):
        fabricate(tmp_path / f"w{weight}", [f"regularizer.weight={weight}", "regularizer=kinetic"], nfe_forward=nfe)
    draw_figures(runs_of(tmp_path), tmp_path / "figures", ["regularizer"])
    rows = read(tmp_path / "figures" / "regularizer.csv")
    assert {(row["regularizer.weight"], row["nfe_forward"]) for row in rows} == {("0", "38.0"), ("0.01", "20.0")}


@pytest.mark.parametrize("name", names_of("model"))
def test_a_figure_of_the_model_is_left_to_evaluate(name, tmp_path, capsys):
    fabricate(tmp_path / "run")
    assert noderun("report", tmp_path / "run", "--figure", name) == 2
    assert f"`noderun evaluate run=FOLDER figures={name}` draws it" in capsys.readouterr().err


def test_every_figure_of_the_model_has_its_rows():
    assert list(ROWS) == names_of("model")


@pytest.mark.parametrize("name", [name for name in names_of("runs") if name != "learning"])
def test_a_figure_that_a_model_cannot_have_is_one_sentence(name, tmp_path, capsys):
    none = {"solver": None, "gradient": None, "nfe_forward": None, "nfe_backward": None, "rtol": None}
    fabricate(tmp_path / "run", model="resnet", **none)
    assert noderun("report", tmp_path / "run", "--figure", name) == 2
    err = capsys.readouterr().err
    assert f"there can be no figure '{name}' here" in err and FIGURES[name].needs in err
    assert not (tmp_path / "run" / "figures").exists() and not (tmp_path / "run" / "report.html").exists()


def test_the_page_needs_nothing_but_itself(tmp_path, capsys):
    folder = tolerance_grid(tmp_path / "grid")
    fabricate(folder / "bad", ["seed=9"], status="failed", error="step <limit> & more", seed=9)
    assert noderun("report", folder) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert not re.search(r"<script|<link|src=\"(?!data:)|https?://", page)
    assert "step &lt;limit&gt; &amp; more" in page and "5.50% ± 0.71%" in page


def test_one_figure_alone_leaves_the_page_as_it_was(tmp_path, capsys):
    folder = tolerance_grid(tmp_path / "grid")
    assert noderun("report", folder) == 0
    page = (folder / "report.html").read_bytes()
    (folder / "figures" / "nfe.png").unlink()
    capsys.readouterr()
    assert noderun("report", folder, "--figure", "nfe") == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "figures" / "nfe.png"), str(folder)]
    assert (folder / "figures" / "nfe.png").is_file() and (folder / "report.html").read_bytes() == page


def test_runs_side_by_side_leave_the_sweep_as_it_was(tmp_path, capsys):
    folder = tolerance_grid(tmp_path / "grid")
    assert noderun("report", folder / "adjoint-0.1-0", folder / "backprop-0.1-0") == 0
    place = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(rf"{folder}/report-[0-9a-f]{{8}}", place)
    assert not (folder / "report.html").exists()


DAMAGE = {
    "no such folder": (lambda run: None, "no folder"),
    "no status": (lambda run: (run / "status.json").unlink(), "holds no run"),
    "half a status": (lambda run: (run / "status.json").write_text('{"status": "do'), "status.json is damaged"),
    "another version": (lambda run: (run / "status.json").write_text('{"state": 1}'), "no status of this version"),
    "no result": (lambda run: (run / "result.json").unlink(), "has no result.json"),
    "half a result": (lambda run: (run / "result.json").write_text("{"), "result.json is damaged"),
    "metrics": (lambda run: (run / "metrics.jsonl").write_text("{\n"), "metrics.jsonl is damaged"),
    "words": (lambda run: (run / ".hydra" / "overrides.yaml").write_text("- [\n"), "overrides.yaml is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_run_is_one_sentence_and_stays_as_it_was(case, tmp_path, capsys):
    damage, words = DAMAGE[case]
    run = fabricate(tmp_path / "run")
    damage(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert noderun("report", run if case != "no such folder" else tmp_path / "none") == 2
    out, err = capsys.readouterr()
    assert out == "" and words in err and len(err.splitlines()) == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_runs_of_different_data_have_tables_and_figures_apart(tmp_path, capsys):
    for data in ("digits", "mnist"):
        tolerance_grid(tmp_path / "deep" / data, seeds=(0,), data=data)
    assert noderun("report", tmp_path) == 0
    page = (tmp_path / "report.html").read_text()
    assert "<h2>digits</h2>" in page and "<h2>mnist</h2>" in page and page.count(">tolerance</th>") == 4
    for data in ("digits", "mnist"):
        assert {row["data"] for row in read(tmp_path / "figures" / data / "figure3.csv")} == {data}
        assert f"figures/{data}/figure3.csv" in page
    capsys.readouterr()
    assert noderun("report", tmp_path, "--figure", "nfe") == 2
    assert "different data (digits, mnist)" in capsys.readouterr().err


def test_runs_that_differ_in_more_than_the_seed_are_no_seeds_of_one(tmp_path, capsys):
    for epochs in (2, 8):
        run = fabricate(tmp_path / f"of{epochs}", [f"trainer.epochs={epochs}"], test_error=epochs / 10)
        status = json.loads((run / "status.json").read_text())
        status["identity"]["scheduler.horizon"] = epochs
        (run / "status.json").write_text(json.dumps(status))
    assert noderun("report", tmp_path) == 0
    page = (tmp_path / "report.html").read_text()
    assert "20.00%" in page and "80.00%" in page and "±" not in page and ">scheduler.horizon</th>" in page


def test_a_page_tells_the_command_the_date_and_every_setting(tmp_path):
    folder = fabricate(tmp_path / "run", ["data=digits", "tolerance=1e-3"], settings={"optimizer.lr": 0.01})
    assert noderun("report", folder) == 0
    page = (folder / "report.html").read_text()
    for words in (
        "<h1>odenet on digits, dopri5 at 0.001, adjoint</h1>",
        "<code>noderun train data=digits tolerance=1e-3</code>",
        "started 2026-01-02 03:04",
        "<td>solver</td><td>dopri5</td><td>rtol 0.001</td>",
        "<td>lr 0.01</td>",
    ):
        assert words in page, words


def test_a_grids_page_tells_what_differs_and_what_does_not(tmp_path):
    folder = tolerance_grid(tmp_path / "grid")
    (folder / "command.txt").write_text("noderun sweep tolerance=0.1,0.001 seed=0,1\n")
    assert noderun("report", folder) == 0
    page = (folder / "report.html").read_text()
    assert "<code>noderun sweep tolerance=0.1,0.001 seed=0,1</code>" in page
    assert "<h1>odenet on digits: 8 runs over tolerance, gradient, seed</h1>" in page
    assert "<td>[adjoint | backprop]</td>" in page and ">seeds</th>" in page and "claimed memory" in page


def test_seeds_become_mean_and_spread_and_twins_of_columns_go(tmp_path):
    rows = [run.row() for run in runs_of(tolerance_grid(tmp_path))]
    merged = over_seeds(rows, ["tolerance", "gradient", "seed"])
    assert len(merged) == 4 and {row["seeds"] for row in merged} == {2}
    assert merged[0]["test_error"] == Spread(pytest.approx(0.055), pytest.approx(0.00707107, rel=1e-4))
    assert show("test_error", merged[0]["test_error"]) == "5.50% ± 0.71%"
    shown = columns(merged, ["tolerance", "gradient", "seed"])
    assert shown[:3] == ["tolerance", "gradient", "seeds"] and not {"rtol", "atol", "seed"} & set(shown)


def test_nothing_is_best_across_data():
    assert best([RESULT, RESULT | {"test_error": 0.01}], "test_error") == 1
    assert best([RESULT, RESULT | {"test_error": 0.01, "data": "mnist"}], "test_error") is None


def test_what_was_not_run_has_no_number_and_papers_stay_beside():
    failed = {"model": "mlp", "status": "failed", "data": "digits", "reason": "it broke"}
    names, rows = chen_table([RESULT, failed], ["model"], "chen2018/table1")
    lines = {row[0][0]: dict(zip(names, (text for text, _ in row), strict=True)) for row in rows}
    assert lines.keys() == {"odenet", "mlp", "resnet", "rknet"}
    assert lines["odenet"]["test error"] == "6.00%" and lines["odenet"]["saved (MiB)"] == "1.00"
    assert lines["mlp"]["test error"] == "failed" and lines["mlp"]["reason"] == "it broke"
    measured = ("test error", "parameters", "saved (MiB)", "peak (MiB)", "time (s)", "NFE forward", "NFE backward")
    stated = {
        model: [cells[f"paper's {name}"] for name in ("test error", "parameters")] for model, cells in lines.items()
    }
    assert len(set(names)) == len(names)
    for model in ("resnet", "rknet"):
        assert {lines[model].get(name, "not run") for name in measured} == {"not run"}
    assert stated["resnet"] == ["0.41%", "0.60 M"] and stated["odenet"] == ["0.42%", "0.22 M"]


def test_the_ledger_survives_a_damaged_run(tmp_path, capsys):
    fabricate(tmp_path / "a")
    (fabricate(tmp_path / "b") / "status.json").write_text("{")
    fabricate(tmp_path / "a" / "evaluate" / "cell")
    assert noderun("runs", "--root", tmp_path, "--json") == 0
    assert [row["status"] for row in json.loads(capsys.readouterr().out)] == ["done", "damaged"]


def test_a_line_joins_the_tolerances_of_one_net_at_its_means_over_seeds():
    def row(net, tolerance, nfe, error):
        return {"solver": "dopri5", "net": net, "rtol": tolerance, "nfe_test": nfe, "numerical_error": error}

    rows = [row(net, 10.0**-k, 10 * k + seed, 10.0**-k) for net in ("a", "b") for k in (1, 2, 3) for seed in (0, 4)]
    with figure() as (_, ((axes,),)):
        scatter(axes, rows, "nfe_test", "numerical_error", "solver")
    marks, *lines = axes.lines
    assert len(marks.get_xdata()) == 12 and marks.get_linestyle() == "None"
    assert [list(line.get_xdata()) for line in lines] == [[12, 22, 32]] * 2


def test_lines_of_a_grid_join_runs_that_differ_in_precision_and_seed_alone(tmp_path):
    found = runs_of(tolerance_grid(tmp_path))
    rows = FIGURES["memory"].rows(found)
    assert {(row["line"], row["gradient"]) for row in rows} == {("adjoint", "adjoint"), ("backprop", "backprop")}


def test_a_test_that_was_repeated_for_a_figure_is_one_point_and_the_diagonal_is_one():
    trained, tested = (
        ["euler-dt0.25", "euler-dt0.5"],
        ["dopri5-tol1e-05", "dopri5-tol0.1", "euler-dt0.5", "euler-dt0.25"],
    )
    rows = [
        {"run": a, "trained with": a, "tested with": b, "cell": cell, "status": "done"}
        for a in trained
        for b in tested
        for cell in ("plain", "with a figure")
    ]
    kept = matrix_rows(rows)
    assert len(kept) == 8 and {row["cell"] for row in kept} == {"with a figure"}
    assert in_order(trained) == ["euler-dt0.5", "euler-dt0.25"]
    assert in_order(tested) == ["dopri5-tol0.1", "dopri5-tol1e-05", "euler-dt0.5", "euler-dt0.25"]


def test_examples_without_classes_are_counted_by_their_nfe():
    with figure() as (_, ((axes,),)):
        draw_counts(axes, [14, 20, 14, 26])
    assert {(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches} == {
        (14, 2),
        (20, 1),
        (26, 1),
    }
    assert axes.get_xlabel() == "NFE of the example's own solve"


def test_one_epoch_and_one_number_of_evaluations_have_no_ticks_between_whole_numbers():
    with figure() as (_, ((axes,),)):
        axes.plot([1], [14], "o")
        whole_numbers(axes, "xy")
        ticks = [*axes.get_xticks(), *axes.get_yticks()]
    assert {1, 14} <= set(ticks) and all(tick == round(tick) for tick in ticks)
