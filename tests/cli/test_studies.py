"""Studies from words to tables: a small real sweep, and what is evaluated of it without training."""

import csv
import itertools
import json
import shutil
import types
from pathlib import Path

import pytest
from torch import nn

from noderun.cli.main import main
from noderun.cli.tasks.evaluate import measured_before
from noderun.data.files import DataMissing
from noderun.data.sources import SETS, Source
from noderun.evaluation import depth, epochs
from noderun.evaluation.rows import ROWS
from noderun.evaluation.trained import with_floats
from noderun.record import files, run_folder
from noderun.training import build

TINY = (
    "data=moons data.examples=64 data.batch_size=32 trainer.max_steps=1 trainer.epochs=1 log=quiet device=cpu".split()
)
FLOW = "model.stem=none dynamics=mlp dynamics.hidden=4 gradient=backprop".split()
SMALL = "data=digits data.limit=32 data.batch_size=16 trainer.max_steps=1 trainer.epochs=1 log=quiet device=cpu".split()


pytestmark = pytest.mark.usefixtures("restored_process")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("studies")
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def swept(place):
    """Two runs of one net in the plane: Euler's steps and an adaptive solver."""
    words = ["sweep", *TINY, *FLOW, "solver=euler,dopri5", "name=two"]
    assert main(words) == 0
    return place / "outputs" / "sweep" / "two"


@pytest.fixture(scope="module")
def run(swept):
    return next(swept.glob("*-dopri5-*"))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def evaluate(run, *words):
    return main(["evaluate", f"run={run}", *words, "log=quiet", "device=cpu"])


def test_a_sweep_leaves_its_results_figures_and_page(swept):
    found = rows(swept / "results.csv")
    assert [row["solver"] for row in found] == ["euler", "dopri5"] and {row["status"] for row in found} == {"done"}
    assert (swept / "report.html").stat().st_size > 10_000
    assert {"learning.png", "learning.csv", "nfe.png"} <= {path.name for path in (swept / "figures").iterdir()}


def test_the_same_sweep_trains_only_what_is_missing(swept, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(
        build, "train_run", lambda settings, folder, callbacks: trained.append(settings.seed) or write(folder)
    )
    again = swept.with_name("four")
    shutil.copytree(swept, again)
    assert main(["sweep", *TINY, *FLOW, "solver=euler,dopri5", "seed=0,1", "name=four"]) == 0
    assert trained == [1, 1]
    assert capsys.readouterr().out.splitlines()[-1] == str(again)


def write(folder):
    run_folder.write_json(folder / "result.json", {"epochs": 1, "steps": 1, "test_error": 0.5, "status": "done"})


def test_other_solvers_need_no_training(run, capsys, monkeypatch):
    before = (run / "checkpoint.pt").read_bytes()
    assert evaluate(run, "tolerance=1e-1,1e-3", "solver=euler,rk4,dopri5") == 0
    out = capsys.readouterr()
    assert out.out.splitlines()[-1] == str(run / "evaluate") and "2 of 6 jobs come out equal" in out.err
    found = {row["tested with"]: row for row in rows(run / "evaluate" / "results.csv")}
    assert found.keys() >= {"euler-dt0.1", "rk4-dt0.25", "dopri5-tol0.1", "dopri5-tol0.001"}
    assert float(found["euler-dt0.1"]["nfe_test"]) == 10 and float(found["rk4-dt0.25"]["nfe_test"]) == 16
    errors = {name: float(row["numerical_error"]) for name, row in found.items()}
    assert errors["rk4-dt0.25"] < errors["euler-dt0.1"] / 10 and min(errors.values()) > 0
    result, again = json.loads((run / "result.json").read_text()), found["dopri5-tol0.001"]
    for name in ("numerical_error", "reconstruction_error"):  # one name, one quantity
        assert float(again[name]) == pytest.approx(result[name], rel=1e-3)
    assert (run / "checkpoint.pt").read_bytes() == before
    assert (run / "evaluate" / "figures" / "precision.png").is_file()
    monkeypatch.setattr("noderun.evaluation.measure.measure", None)  # a second time nothing is measured
    assert evaluate(run, "tolerance=1e-1,1e-3", "solver=euler,rk4,dopri5") == 0


def test_all_that_a_run_and_its_evaluation_leave_is_known_by_name(run, capsys):
    assert evaluate(run, "tolerance=1e-2") == 0 and main(["report", str(run)]) == 0
    for folder in (run, *run.glob("evaluate/*-*")):
        assert [path.name for path in folder.iterdir() if not files.is_ours(path.name)] == []


def test_what_earlier_grids_measured_stays_beside(run):
    assert evaluate(run, "tolerance=1e-2") == 0
    before = {row["cell"]: row for row in rows(run / "evaluate" / "results.csv")}
    assert evaluate(run, "solver=midpoint,heun2") == 0 and evaluate(run, "solver=heun2") == 0
    after = {row["cell"]: row for row in rows(run / "evaluate" / "results.csv")}
    assert len(after) == len(before) + 2
    assert {key: row["test_loss"] for key, row in before.items()} == {key: after[key]["test_loss"] for key in before}
    again = {**json.loads((run / "result.json").read_text()), "steps": 2}  # trained further: another model
    results = run / "evaluate" / "results.csv"
    kept = results.read_bytes()
    cell = types.SimpleNamespace(run_id="x", run=types.SimpleNamespace(folder=run, result=again))
    assert measured_before(run / "evaluate", [cell]) == [] and results.read_bytes() == kept


def test_data_may_have_moved_since_the_training(run, monkeypatch, capsys):
    moons = SETS["moons"].read

    def read(root, augment, **options):
        if root != Path("there"):
            raise DataMissing(f"nothing in {root}")
        return moons(root, augment, **options)

    monkeypatch.setitem(SETS, "moons", Source(read, "vector"))
    assert evaluate(run, "solver=heun3") == 1 and "nothing in data" in capsys.readouterr().out
    assert evaluate(run, "solver=heun3", "data.root=there") == 0  # the same cell, which had failed


def test_a_net_that_was_deepened_is_evaluated_as_deep_as_it_ended(place, capsys):
    words = [word for word in SMALL if not word.startswith("trainer")]
    deep = ["model=resnet", "model.width=4", "model.blocks=1", "model.double_at=[1]", "trainer.epochs=2"]
    assert main(["train", *words, *deep]) == 0
    resnet = Path(capsys.readouterr().out.splitlines()[-1])
    assert evaluate(resnet, "lesion=all") == 0
    found = rows(resnet / "evaluate" / "results.csv")
    assert [row["removed block"] for row in found] == ["none", "0", "1"]
    result = json.loads((resnet / "result.json").read_text())
    assert float(found[0]["test_loss"]) == pytest.approx(result["test_loss"], rel=1e-6)


def test_its_own_solver_gives_the_error_of_training(run):
    assert evaluate(run) == 0
    cells = [row for row in rows(run / "evaluate" / "results.csv") if row["tested with"] == "dopri5-tol0.001"]
    assert cells  # one, or one more where figures were asked for before
    result = json.loads((run / "result.json").read_text())
    for cell, key in itertools.product(cells, ("test_error", "test_loss", "nfe_test", "parameters", "steps")):
        assert float(cell[key]) == pytest.approx(result[key], rel=1e-6), key


def test_every_training_solver_against_every_test_solver(swept, capsys):
    assert evaluate(swept, "matrix=true") == 0
    (heading,) = [line for line in capsys.readouterr().out.splitlines() if "test error (%): trained with" in line]
    assert heading.index("tested with dopri5-tol0.001") < heading.index("tested with euler-dt0.1")
    found = rows(swept / "evaluate" / "results.csv")
    pairs = {(row["trained with"], row["tested with"]) for row in found}
    solvers = {"euler-dt0.1", "dopri5-tol0.001"}
    assert {(a, b) for a in solvers for b in solvers} <= pairs
    assert (swept / "evaluate" / "figures" / "matrix.csv").is_file()


def test_figures_of_the_trained_model(run):
    assert evaluate(run, "figures=all") == 0
    (folder,) = run.glob("evaluate/*/figures")
    assert {path.stem for path in folder.glob("*.png")} == {
        "trajectories", "steps", "nfe_per_input", "flow", "decision", "norms"
    }  # fmt: skip
    steps = rows(folder / "steps.csv")
    assert sum(float(row["step"]) for row in steps) == pytest.approx(1)
    flow = [row for row in rows(folder / "flow.csv") if row["kind"] == "ode" and row["example"] == "0"]
    moved = [row for row in rows(folder / "trajectories.csv") if row["example"] == "0"]
    assert len(flow) == len(moved) and float(flow[-1]["t"]) == 1


def test_what_is_seen_by_epoch_is_left_for_the_report_and_survives_a_restart(place, capsys, monkeypatch):
    monkeypatch.setattr(depth, "GRID", 9)
    short = [word for word in (*TINY, *FLOW) if not word.startswith("trainer")]
    words = ["train", *short, "solver=euler", "scheduler=constant", "trainer.diagnostics_every=2"]
    for most in ("trainer.epochs=3", "trainer.epochs=4"):  # epoch 3 is seen as the last one, then gone through again
        assert main([*words, most]) == 0
        folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert main([*words[:-1], "trainer.epochs=4"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)  # to look changes no identity
    figures = {path.stem for path in folder.glob("figures/*.png")}
    assert figures == {"decision_by_epoch", "trajectories_by_epoch"}
    found = rows(folder / "figures" / "decision_by_epoch.csv")
    assert list(dict.fromkeys(row["epoch"] for row in found)) == ["0", "2", "3", "4"]
    maps = [[row["score"] for row in found if row["epoch"] == epoch and row["kind"] == "map"] for epoch in "024"]
    assert maps[0] != maps[1] != maps[2] and len(maps[0]) == 9**2
    before = (folder / "figures" / "decision_by_epoch.csv").read_bytes()
    (folder / "figures" / "decision_by_epoch.png").unlink()
    assert main(["report", str(folder), "--figure", "decision_by_epoch"]) == 0
    assert (folder / "figures" / "decision_by_epoch.png").is_file()
    assert (folder / "figures" / "decision_by_epoch.csv").read_bytes() == before


def test_a_picture_of_an_epoch_that_was_lost_is_made_again(tmp_path, monkeypatch):
    for epoch in (1, 2, 3, 2):
        monkeypatch.setitem(ROWS, "decision", lambda setup, epoch=epoch: [{"kind": "map", "score": epoch}])
        epochs.write_pictures(types.SimpleNamespace(model=nn.Module(), blocks=[]), epoch, tmp_path)
    assert [(row["epoch"], row["score"]) for row in rows(tmp_path / "figures" / "decision_by_epoch.csv")] == [
        ("1", "1"),
        ("2", "2"),
    ]


def test_lesions_are_measured_block_by_block(place, capsys):
    assert main(["train", *SMALL, "model=resnet", "model.width=4", "model.blocks=2"]) == 0
    resnet = Path(capsys.readouterr().out.splitlines()[-1])
    assert evaluate(resnet, "lesion=all") == 0
    found = rows(resnet / "evaluate" / "results.csv")
    assert [row["removed block"] for row in found] == ["none", "0", "1"]
    assert len({row["test_loss"] for row in found}) == 3
    assert evaluate(resnet, "solver=euler") == 2
    assert "model=resnet solves no ODE" in capsys.readouterr().err


WRONG = {
    "": "evaluate needs one run=FOLDER",
    "run=nowhere": "no folder",
    "run={run} solver=dopri": "did you mean 'dopri5'?",
    "run={run} solvr=dopri5": "no setting 'solvr'",
    "run={run} solver.rtoll=1e-3": "did you mean 'solver.rtol'?",
    "run={run} data.limit=3": "no setting 'data.limit'; data has root",
    "run={run} figures=flows": "did you mean 'flow'?",
    "run={run} lesion=first": "lesion must be all or the number of a block",
    "run={run} lesion=all": "model=odenet has no blocks to remove; resnet, plain and revnet have",
    "run={run} model=resnet": "evaluate takes no model; did you mean `noderun train model=resnet`?",
    "run={run} solver=rk4 solver.dt=null": "solver=rk4 takes fixed steps only",
    "run={run},{run}": "evaluate needs one run=FOLDER",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_words_measure_nothing(line, run, capsys):
    before = set(run.rglob("*"))
    assert main(["evaluate", *line.format(run=run).split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and WRONG[line] in err and len(err.splitlines()) == 1
    assert set(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (".hydra/config.yaml", "model: [", "config.yaml is damaged"),
        (".hydra/config.yaml", "model: {name: odenet}", "this version cannot read"),
        (".hydra/config.yaml", None, "it has no .hydra/config.yaml"),
        ("checkpoint.pt", None, "it has no checkpoint.pt"),
        ("status.json", '{"status": "interrupted", "identity": {}}', "is not finished: it is interrupted"),
    ],
)
def test_a_run_that_cannot_be_evaluated_is_one_sentence(name, content, words, run, capsys):
    path = run / name
    before = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_text(content)
        assert evaluate(run, "tolerance=1e-2") == 2
        assert words in capsys.readouterr().err
    finally:
        path.write_bytes(before)


def test_a_damaged_checkpoint_fails_the_job(run, capsys):
    before = (run / "checkpoint.pt").read_bytes()
    try:
        (run / "checkpoint.pt").write_bytes(before[:100])
        assert evaluate(run, "tolerance=3e-2") == 1
        assert "checkpoint.pt is damaged" in capsys.readouterr().out
    finally:
        (run / "checkpoint.pt").write_bytes(before)


def test_compare_wants_one_set_of_data(place, capsys):
    assert main(["compare", "model=odenet,mlp", "data=digits,mnist5k"]) == 2
    assert "one set of data for all" in capsys.readouterr().err
    assert main(["compare", "model=odenet", *FLOW, "data=moons", "data.examples=64,128"]) == 2
    assert "one set of data for all, not moons data.examples=128 and moons data.examples=64" in capsys.readouterr().err


def test_a_grid_whose_jobs_all_fail_is_told_and_kept(place, monkeypatch, capsys):
    def fail(settings, folder, callbacks):
        raise ValueError("it cannot be")

    monkeypatch.setattr(build, "train_run", fail)
    assert main(["compare", *SMALL, "experiment=chen2018/table1", "data=digits", "model=odenet,stem", "name=f"]) == 1
    shown = capsys.readouterr()
    assert "failed" in shown.out and "not run" in shown.out, shown
    assert "it cannot be" in (place / "outputs/compare/f/results.csv").read_text()
    assert shown.out.splitlines()[-1] == str(place / "outputs" / "compare" / "f")


def test_numbers_that_yaml_reads_as_words():
    assert with_floats({"a": {"rtol": "1e-05"}, "b": "3d", "c": "1e"}) == {"a": {"rtol": 1e-5}, "b": "3d", "c": "1e"}


def test_a_plane_is_asked_of_a_figure_that_shows_one(run, capsys):
    for words, said in (
        (["plane=[1,2]"], "plane is of the figures trajectories, flow, phase: give one of them too"),
        (["plane=[1,1]", "figures=flow"], "plane names two components of the state, from 1, such as [1,3], not [1, 1]"),
        (["plane=[0,1]", "figures=flow"], "plane"),
    ):
        assert evaluate(run, *words) == 2
        assert said in capsys.readouterr().err
