import csv
import json
from pathlib import Path

import pytest
from fabricated import RESULT

from noderun.report.table import best, columns, print_comparison, print_run, run_rows, write_csv

ODENET = RESULT | {
    "epochs": 4, "steps": 252, "test_error": 0.059, "memory_saved_mib": 0.0, "seconds": 194.0,
}  # fmt: skip
RESNET = ODENET | {
    "model": "resnet", "dynamics": None, "solver": None, "gradient": None, "rtol": None, "atol": None,
    "test_error": 0.048, "nfe_forward": None, "nfe_backward": None, "numerical_error": None, "memory_saved_mib": None,
    "seconds": 60.0,
}  # fmt: skip


def test_run_shows_what_applies_only():
    rows = dict(run_rows(RESNET))
    assert rows["test error"] == "4.80%" and rows["seconds"] == "60.0"
    assert not {"NFE forward", "RMSE"} & set(rows)
    names = list(dict(run_rows(ODENET)))
    assert names.index("gradient error") == names.index("numerical error") + 1
    assert dict(run_rows(ODENET))["gradient error"] == "2.0e-02"


def test_comparison_shows_what_varies_only():
    shown = columns([ODENET, RESNET])
    assert shown[0] == "model" and "test_error" in shown and "seconds" in shown
    assert not {"data", "seed", "rmse"} & set(shown)
    assert "memory_peak_mib" in shown and columns([ODENET, ODENET])[0] == "test_loss"  # a result does not vanish
    assert {"model", "test_error", "seconds"} <= set(columns([RESNET])) and "nfe_forward" not in columns([RESNET])
    assert columns([ODENET, ODENET | {"width": 32}], swept=["width"])[:2] == ["width", "test_loss"]


@pytest.mark.parametrize(
    ("key", "winner"),
    [
        ("test_error", 1),
        ("nfe_forward", None),
        ("seconds", 1),
        ("parameters", None),
        ("model", None),
        ("rmse", None),
        ("memory_peak_mib", None),
    ],
)
def test_best(key, winner):
    assert best([ODENET, RESNET | {"memory_peak_mib": 700.0}], key) == winner  # on a CPU, mostly torch's own


def test_what_looks_the_same_is_not_better():
    assert best([ODENET, ODENET | {"test_error": 0.059001}], "test_error") is None


def test_most_examples_a_second_are_best():
    assert best([ODENET, RESNET | {"examples_per_second": 90.0}], "examples_per_second") == 1


def test_tables_go_to_stdout_whole(capsys):
    print_run(ODENET, Path("outputs/train/x"))
    print_comparison([ODENET, RESNET], Path("outputs/compare/y"))
    out = capsys.readouterr().out
    assert "5.90%" in out and "tensorboard --logdir outputs/train/x" in out
    assert "resnet" in out and "…" not in out
    assert out.rstrip().endswith("tensorboard --logdir outputs/compare/y")


def test_csv_keeps_every_key_and_reads_back(tmp_path):
    write_csv([ODENET, RESNET | {"reason": "refused, of course"}], tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*ODENET, "reason"]
    assert rows[1]["nfe_forward"] == "" and rows[1]["reason"] == "refused, of course"
    assert json.loads(rows[0]["test_error"]) == ODENET["test_error"]
