"""Tables as densities: read, split, standardized; and what has no bounded density is refused in one sentence."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from noderun.cli.main import main
from noderun.data import SETS, DataError, DataMissing, batches, check, load, uci
from noderun.data.examples import check_examples
from tests.data.test_densities import chosen

NORMAL = np.random.default_rng(0).normal(size=(500, 3)) * [1, 100, 0.01] + [0, 1000, 5]


def table(path, **options):
    return load(chosen("table", validation=0.1, options={"path": str(path), **options}), "cpu")


def written(folder, values, names=None, kind="csv"):
    path = folder / f"table.{kind}"
    if kind == "npy":
        np.save(path, values)
    else:
        separator = "," if kind == "csv" else "  "
        rows = [separator.join(names)] if names else []
        path.write_text("\n".join([*rows, *(separator.join(map(str, row)) for row in values)]) + "\n")
    return path


@pytest.mark.parametrize(("kind", "names"), [("csv", None), ("csv", ["a", "b", "c"]), ("npy", None), ("txt", None)])
def test_a_table_is_split_and_standardized_by_its_training_rows(tmp_path, kind, names):
    dataset = table(written(tmp_path, NORMAL, names, kind))
    check_examples(dataset)
    assert {split: len(rows) for split, rows in dataset.splits.items()} == {"train": 405, "validation": 45, "test": 50}
    everything = torch.cat([rows.inputs for rows in dataset.splits.values()]).double()
    expected = torch.from_numpy(NORMAL).float().double()
    assert torch.equal(everything[everything[:, 0].argsort()], expected[expected[:, 0].argsort()])
    learned = torch.cat([dataset.train.inputs, dataset.validation.inputs])
    y, log_det = dataset.target.transform(learned)
    assert y.mean(0).abs().max() < 1e-3 and (y.std(0, correction=0) - 1).abs().max() < 1e-3
    assert float(log_det[0]) == pytest.approx(-float(learned.double().std(0, correction=0).log().sum()), abs=1e-3)
    again = table(written(tmp_path, NORMAL, names, kind), split_seed=1)
    assert not torch.equal(again.test.inputs, dataset.test.inputs)


def test_splits_come_from_an_npz_or_from_files_of_their_own(tmp_path):
    parts = dict(zip(("train", "validation", "test"), np.split(NORMAL, [300, 400]), strict=True))
    np.savez(tmp_path / "all.npz", **parts)
    for split, values in parts.items():
        np.save(tmp_path / f"{split}.npy", values)
    own = {f"{split}_path": str(tmp_path / f"{split}.npy") for split in ("validation", "test")}
    for dataset in (table(tmp_path / "all.npz"), table(tmp_path / "train.npy", **own)):
        for split, values in parts.items():
            found = dataset.splits[split].inputs
            assert torch.equal(found.sort(0).values, torch.from_numpy(values).float().sort(0).values)


FAULTS = {
    "constant": (lambda x: np.c_[x, np.full(500, 7.0)], "column 4 is constant"),
    "copy": (lambda x: np.c_[x, x[:, 1]], "column 4 repeats column 2"),
    "combination": (lambda x: np.c_[x, 3 * x[:, 0] - x[:, 2] + 1], "column 4 is a linear combination"),
    "discrete": (
        lambda x: np.c_[x[:, 0], x[:, 1].round(), x[:, 2]],
        r"discrete columns.* 450 rows: column 2 \(\d+\); data.dequantize=true",
    ),
    "ties": (lambda x: np.r_[x[:250], x[:250]], "discrete columns"),
    "float32": (lambda x: x + [0, 1e9, 0], r"discrete columns.*: column 2 \(\d+\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_has_no_bounded_density_is_refused(tmp_path, fault):
    change, sentence = FAULTS[fault]
    path = written(tmp_path, change(NORMAL), kind="npy")
    with pytest.raises(DataError, match=f"^table has no bounded density: .*{sentence}") as caught:
        table(path)
    assert "\n" not in str(caught.value)
    if "discrete" in sentence:
        assert table(path, dequantize=True)
    else:
        with pytest.raises(DataError, match=sentence):
            table(path, dequantize=True)
        assert table(path, columns=["column 1", "column 3"]).shape == (2,)


def test_dequantization_adds_one_quantum_to_discrete_columns_alone(tmp_path):
    values = FAULTS["discrete"][0](NORMAL) * [1, 0.25, 1]
    dataset = table(written(tmp_path, values, kind="npy"), dequantize=True)
    raw = dataset.train.inputs
    epochs = [next(batches(dataset, "train", 400, 0, epoch)) for epoch in (0, 1)]
    for batch in epochs:
        moved = batch.inputs - raw[batch.index]
        assert moved[:, [0, 2]].abs().max() == 0
        assert 0.12 < moved[:, 1].abs().max() <= 0.1251 and abs(moved[:, 1].mean()) < 0.02
    assert not torch.equal(*(batch.inputs[batch.index.argsort()] for batch in epochs))
    tests = [torch.cat([b.inputs for b in batches(dataset, "test", size)]) for size in (50, 7)]
    assert torch.equal(*tests)


def cell(row, column, value):
    values = NORMAL.astype(object)
    values[row, column] = value
    return values


SENTENCES = {
    "NaN": (cell(16, 1, "nan"), {}, "row 17 of b holds NaN, or nothing; a density needs finite numbers"),
    "empty": (cell(16, 1, ""), {}, "row 17 of b holds NaN, or nothing"),
    "infinity": (cell(3, 2, "inf"), {}, "row 4 of c holds infinity"),
    "word": (cell(2, 0, "tall"), {}, "row 3 of a holds 'tall', not a number"),
    "column": (NORMAL, {"columns": ["a", "cc"]}, "no column 'cc'; did you mean 'c'"),
    "fractions": (NORMAL, {"test": 1.0}, "0 rows for train are too few"),
    "no test": (NORMAL, {"test": 0.0}, "no rows for the test; give data.test a fraction"),
    "other columns": (NORMAL, {"test_path": "two.npy"}, "test has 2 columns and train 3"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, case):
    values, options, sentence = SENTENCES[case]
    monkeypatch.chdir(tmp_path)
    np.save("two.npy", NORMAL[:, :2])
    with pytest.raises(DataError, match=sentence) as caught:
        table(written(tmp_path, values, ["a", "b", "c"]), **options)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table_is_one_sentence(tmp_path):
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "odd.npz", train=NORMAL, other=NORMAL)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "ragged.csv").write_text("1,2\n3,4\n5,6,7,8\n")
    (tmp_path / "table.xlsx").write_bytes(b"")
    sentences = {
        "cube.npy": r"has shape \(2, 2, 2\); a table is \[rows, columns\]",
        "objects.npy": "cannot be read as a table",
        "odd.npz": "holds train, other; several arrays are train, test and perhaps validation",
        "broken.npz": "cannot be read as a table",
        "ragged.csv": "cannot be read as a table",
        "table.xlsx": r"tables are read from \.csv, ",
        "absent.csv": "no file absent.csv in",
    }
    for file, sentence in sentences.items():
        with pytest.raises(DataError, match=sentence):
            table(tmp_path / file)
    with pytest.raises(DataError, match="data=table needs data.path=FILE"):
        load(chosen("table"), "cpu")


def test_a_published_table_is_read_packed_or_not_and_checked_by_its_shape(tmp_path, monkeypatch):
    monkeypatch.setitem(uci.TABLES, "kin8nm", uci.Published("kin8nm", "kin8nm", 500, 3))
    read = uci.TABLES["kin8nm"].read
    with pytest.raises(DataMissing, match="no file data.txt in"):
        uci.TABLES["kin8nm"].require(tmp_path)
    text = tmp_path / "UCI" / "kin8nm" / "data.txt"
    text.parent.mkdir(parents=True)
    written(text.parent, NORMAL, kind="txt").rename(text)
    plain = read(tmp_path)
    text.with_name("data.txt.gz").write_bytes(gzip.compress(text.read_bytes()))
    text.unlink()
    assert torch.equal(read(tmp_path).train.inputs, plain.train.inputs)
    with pytest.raises(DataError, match=re.escape("its shape is (500, 3), published is (8192, 9)")):
        check("kin8nm", tmp_path)
    packed = text.with_name("data.txt.gz")
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be read as a table"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("kin8nm", None),
        ("power_plant", "discrete columns.*column 2 .*data.dequantize=true"),
        ("protein", "discrete columns.*column 8 .*data.dequantize=true"),
        ("naval", "column 9 is constant; column 12 is constant; column 7 repeats column 6"),
    ],
)
def test_the_real_tables_are_taken_or_refused(name, sentence):
    if "NODERUN_DATA" not in os.environ:
        pytest.skip("the tables are under the folder that NODERUN_DATA names; it is not set")
    root = Path(os.environ["NODERUN_DATA"])
    if sentence is None:
        assert load(chosen(name, root), "cpu").validation is not None
        return
    with pytest.raises(DataError, match=sentence):
        load(chosen(name, root), "cpu")
    if "dequantize" in sentence:
        load(chosen(name, root, options={"dequantize": True}), "cpu")


@pytest.mark.usefixtures("restored_process")
def test_an_unfit_table_is_refused_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, FAULTS["copy"][0](NORMAL), kind="npy")
    wrong = {
        "data=table": "data=table needs data.path=FILE",
        "data=table data.path=absent.csv": "no file absent.csv in",
        f"data=table data.path={path}": "column 4 repeats column 2",
        f"data=table data.path={path} data.columns=[a]": "no column 'a'",
        "data=kin8nm data.download=false data.root=here": "no file data.txt in",
    }
    for words, sentence in wrong.items():
        assert main(["train", *words.split(), "model.objective=density", "model.stem=none"]) == 2
        assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_the_sets_that_say_so_have_a_split_for_validation():
    root = Path(os.environ.get("NODERUN_DATA", "nowhere"))
    for name, source in SETS.items():
        if source.require is None and not source.examined:
            for target in source.readers:
                assert (load(chosen(name), "cpu", targets=(target,)).validation is not None) == source.validated
        elif root.is_dir() and name in ("kin8nm", "freyfaces", "caltech_silhouettes", "mnist"):
            assert (load(chosen(name, root), "cpu").validation is not None) == source.validated
