"""`noderun bench` as its user meets it: every suite on its smallest cases, once."""

import csv
import json

import pytest

from noderun.benchmarks import libraries
from noderun.benchmarks.bench import ALL, TIMED
from noderun.benchmarks.case import LIMIT
from noderun.benchmarks.memory import noderun_by
from noderun.benchmarks.startup import startup_cases
from noderun.cli.main import main
from noderun.ode.gradients import GRADIENTS
from noderun.record import files

QUICK = ["quick=true", "rounds=1", "seconds=1e-4", "device=cpu", "log=quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "all"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(libraries.PEERS, "torchode", ("a_module_that_nobody_has",))
        # that generated code computes what its graph does is for tests/ode/solvers/test_compiled
        patch.setattr("noderun.ode.solvers.compiled.graph.code_of", lambda module, inputs, options, table: module)
        assert main(["bench", *QUICK, f"hydra.run.dir={folder}"]) == 0
    return folder


FIT = noderun_by("checkpointed")


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_suite_leaves_json_csv_table_and_figure(folder):
    assert all(files.is_ours(path.name) for path in folder.iterdir())
    found = json.loads((folder / "bench.json").read_text())
    assert {row["suite"] for row in found["times"] + found["memory"]} == set(ALL)
    assert len(rows(folder)) == len(found["times"]) + len(found["memory"])
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"{s}.{kind}" for s in ALL for kind in ("png", "csv")
    }
    text = (folder / "tables.md").read_text()
    assert text.startswith("`noderun bench quick=true rounds=1")
    assert all(case in text for case in {row["case"] for row in rows(folder)})


def test_times_have_a_median_a_spread_and_an_error(folder):
    timed = [row for row in rows(folder) if row["milliseconds"]]
    assert all(0 < float(row["low"]) <= float(row["milliseconds"]) <= float(row["high"]) for row in timed)
    assert all(float(row["times_first"]) == 1 for row in timed if row["contender"] == LIMIT)
    assert all(row["error"] for row in timed if row["contender"].split()[-1] in ("backprop", "adjoint", "diffrax"))


def test_held_bytes_grow_as_the_methods_say(folder):
    grows = {"backprop", "checkpointed", "symplectic", "interpolated"}  # the others hold the same at any NFE
    held: dict = {}
    for row in [row for row in rows(folder) if row["nfe"]]:
        held.setdefault(row["contender"], []).append([float(row[key]) for key in ("nfe", "held_mib", "peak_mib")])
    assert {f"noderun {name}" for name in GRADIENTS if name != "forward"} < held.keys()
    for name, ((nfe, few, low), (most, many, high)) in held.items():
        growth = 4.0 if name.split()[1] in grows else 1.0
        assert most == pytest.approx(4 * nfe, rel=0.03) and many <= high, name
        assert many == pytest.approx(growth * few, rel=0.15), name
        assert growth > 1 or high == pytest.approx(low, rel=0.01), name


def test_an_absent_peer_is_named_and_left_out(folder):
    absent = json.loads((folder / "bench.json").read_text())["machine"]["absent"]  # diffrax too, if it is not installed
    assert "torchode" in absent and "torchdiffeq" not in absent
    there = {row["contender"].split()[0] for row in rows(folder)}
    assert "torchdiffeq" in there and not there & set(absent)
    assert f"Absent: {', '.join(absent)}." in (folder / "tables.md").read_text()


def test_a_suite_goes_on_past_what_fails_and_names_it(tmp_path, monkeypatch, caplog):
    def fail(*args):
        raise RuntimeError("no luck today")

    def late(settings, device):
        yield from startup_cases(quick=True)
        fail()

    monkeypatch.setattr("noderun.benchmarks.memory.noderun_by", lambda gradient: fail if gradient == "adjoint" else FIT)
    monkeypatch.setitem(TIMED, "startup", late)
    monkeypatch.setattr("noderun.benchmarks.bench.ALL", ("startup", "memory"))
    assert main(["bench", *QUICK, f"hydra.run.dir={tmp_path}/some"]) == 1
    failed = [(row["suite"], row["contender"], row["failure"]) for row in rows(tmp_path / "some") if row["failure"]]
    assert failed == [("startup", "all", "no luck today"), ("memory", "noderun adjoint", "no luck today")]
    measured = {row["contender"] for row in rows(tmp_path / "some") if not row["failure"]}
    assert {"noderun --help", "noderun checkpointed", "torchdiffeq adjoint"} < measured
    assert (
        "| memory | MLP 2-64-64-2, B = 4, fixed steps | noderun adjoint | no luck today |"
        in (tmp_path / "some" / "tables.md").read_text()
    )
    assert json.loads((tmp_path / "some" / "status.json").read_text())["status"] == "failed"


def test_an_epoch_is_run_where_it_is_asked_for(tmp_path):
    words = ["suite=epoch", "data.limit=4", "data.batch_size=2", *QUICK, f"hydra.run.dir={tmp_path}/epoch"]
    assert main(["bench", *words]) == 0
    found = rows(tmp_path / "epoch")
    assert {row["case"] for row in found} == {"ODE-Net, one epoch of mnist5k: 4 examples, batch 2"}
    assert "noderun adjoint" in {row["contender"] for row in found}


@pytest.mark.long
def test_stochastic_equations_are_run_where_they_are_asked_for(tmp_path):
    assert main(["bench", "suite=stochastic", *QUICK, f"hydra.run.dir={tmp_path}/sde"]) == 0
    found = {row["contender"] for row in rows(tmp_path / "sde")}
    assert {"noderun adjoint", "noderun reversible", "torchsde reversible", "noderun shuffled"} <= found
    assert (tmp_path / "sde/figures/memory.png").exists() and (tmp_path / "sde/figures/stochastic.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["suite=epoch", "data=moons"], "use data=mnist5k"),
        (["suite=solv"], "'solve'"),
        (["suite=solve,memory"], "suite=all runs every suite"),
        (["data.limt=3"], "did you mean 'data.limit'?"),
        (["seconds=0"], "above 0"),
    ],
)
def test_wrong_words_are_found_before_anything_starts(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *words]) == 2
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())
