"""The index of the ledger says what the folders say, whatever happened to them or to it."""

import json
import os
import shutil

import pytest

from noderun.record import files, run_folder
from noderun.record.ledger import ledger
from noderun.record.run_folder import write_json, write_status


def make(folder, error=0.5, **result):
    folder.mkdir(parents=True)
    write_status(folder, "done", {"model.name": "mlp", "seed": len(result)})
    write_json(folder / files.RESULT, {"test_error": error} | result)
    return folder


@pytest.fixture
def root(tmp_path):
    for i in range(3):
        make(tmp_path / "sweep" / f"run-{i}", error=i / 10)
    return tmp_path


def as_read(root):
    """The ledger without an index."""
    (root / files.INDEX).unlink(missing_ok=True)
    return list(ledger(root))


def replace_result(root):
    write_json(root / "sweep/run-1" / files.RESULT, {"test_error": 0.9})


def write_in_place(root):
    """As a status is written on a full disk: the folder's own time stays."""
    path = root / "sweep/run-1" / files.STATUS
    path.write_text(path.read_text().replace('"done"', '"gone"'))


def copy_over(root):
    """The same name, size and time, another file."""
    path = root / "sweep/run-1" / files.RESULT
    before = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text().replace("0.1", "0.7"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def link(root):
    (root / "sweep/run-1" / files.REPORT).symlink_to(root)


CHANGES = {
    "nothing": lambda root: None,
    "a result": replace_result,
    "a status in place": write_in_place,
    "a copy of equal time": copy_over,
    "a link": link,
    "a new run": lambda root: make(root / "sweep/run-9", error=0.3),
    "a run that is gone": lambda root: shutil.rmtree(root / "sweep/run-0"),
    "a run that moved": lambda root: (root / "sweep/run-0").rename(root / "sweep/run-8"),
    "an own metric": lambda root: write_json(
        root / "sweep/run-2" / files.OWN_METRICS, {"metrics": [{"name": "q", "heading": "q"}]}
    ),
    "a damaged result": lambda root: (root / "sweep/run-2" / files.RESULT).write_text("{"),
    "a damaged index": lambda root: (root / files.INDEX).write_text("{"),
    "an index of nonsense": lambda root: (root / files.INDEX).write_text('{"source": null, "rows": [1]}'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_the_index_says_is_what_the_folders_say(change, root):
    list(ledger(root))
    change(root)
    with_index = list(ledger(root))
    assert with_index == as_read(root)


def test_a_row_is_read_once(root, monkeypatch):
    rows = list(ledger(root))
    monkeypatch.setattr(run_folder, "read_json", None)
    assert list(ledger(root)) == rows


def test_the_index_of_another_version_is_made_anew(root):
    rows = list(ledger(root))
    index = json.loads((root / files.INDEX).read_text())
    index["source"][1] -= 1
    index["rows"]["sweep/run-0"]["row"]["test_error"] = 0.123
    (root / files.INDEX).write_text(json.dumps(index))
    assert list(ledger(root)) == rows


def test_a_root_that_cannot_be_written_to_is_read_all_the_same(root, monkeypatch):
    monkeypatch.setattr("tempfile.mkstemp", lambda **words: (_ for _ in ()).throw(PermissionError("read-only")))
    assert len(list(ledger(root))) == 3 and not (root / files.INDEX).exists()
