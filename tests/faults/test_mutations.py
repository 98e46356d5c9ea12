"""Run folders and data files of a stranger's: read in any way, they end in a sentence or in what they say."""

import gzip
import io
import itertools
import os
import random
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from noderun.cli.main import main
from noderun.config.validation import ConfigError
from noderun.data import DataError, idx, physionet, series_files, table_files
from noderun.report.folders import runs_of
from noderun.report.summary import rows_of
from noderun.report.table import print_comparison
from noderun.training.checkpoint import newest_checkpoint

WORDS = """train data=moons data.examples=64 data.batch_size=32 model.stem=none model.augment=1 dynamics=mlp
trainer.epochs=1 trainer.log_every=1 tolerance=1e-2 device=cpu log=quiet""".split()
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in range(ord("b"), ord("j"))
)
STRANGE = [
    *(b"", b"\0", b"\xff\xfe", b"null", b"[]", b"3", b'"text"', b"[" * 100_000, b'{"status": 3, "identity": []}'),
    *(b'{"status": "done", "error": [], "identity": {"model.name": {}}}', BOMB, b"class: subprocess:check_output\n"),
    *(b'{"step": "1", "epoch": null}\n', b"NaN", b'{"a":' * 5000, b"\x1b[2J", b"<script>alert(1)</script>"),
    b"data: {_target_: os.system, name: ${oc.env:HOME}, class: 'os:system'}\n",
    b'{"test_error": "=HYPERLINK(1)", "train_loss": "x", "seconds": [], "steps": {}, "epochs": 1e400}',
]


@pytest.fixture(scope="module")
def run(warm, tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    status, told = warm.run([*WORDS, f"hydra.run.dir={place / 'run'}"], place)
    assert status == 0, told
    return place / "run"


def mutated(data, draw):
    """One piece of a file changed."""
    place, size = draw.randint(0, len(data)), draw.choice([1, 8, 100])
    return draw.choice(
        [
            lambda: data[:place],
            lambda: data[:place] + data[place + size :],
            lambda: data[:place] + bytes(draw.randrange(256) for _ in range(size)) + data[place + size :],
            lambda: data[:place] + data[place : place + size] + data[place:],
            lambda: data[:place] + draw.choice(STRANGE) + data[place + size :],
            lambda: draw.choice(STRANGE),
            lambda: data + data,
        ]
    )()


def damage(folder, draw):
    """Mutate one file of a run's folder, or put a link or a FIFO into its place."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    path = draw.choice(files)
    if draw.random() < 0.1:
        path.unlink()
        draw.choice([lambda: path.symlink_to("/etc/hostname"), lambda: os.mkfifo(path), path.mkdir])()
    else:
        path.write_bytes(mutated(path.read_bytes(), draw))
    return path


def refused(read):
    """Whether a reader refuses with a sentence of its own."""
    try:
        read()
    except (ConfigError, DataError, ValueError) as error:
        assert str(error)  # in one line: warn_user sees to that
        return True
    return False


def read_in_every_way(folder, capsys):
    """The ledger, the report's tables, and what evaluate and a resumed run would load."""
    assert main(["runs", "--root", str(folder.parent)]) in (0, 2)
    assert main(["runs", "--root", str(folder.parent), "--json"]) in (0, 2)
    out, _ = capsys.readouterr()
    assert "\x1b[2J" not in out

    def tables():
        found = runs_of(folder)
        print_comparison(rows_of(folder, found), folder)
        _ = [each.metrics for each in found]

    if not refused(tables):
        assert main(["report", str(folder)]) in (0, 2)
    if not any(path.is_fifo() for path in folder.iterdir()):
        refused(lambda: newest_checkpoint(folder))
    _, err = capsys.readouterr()
    assert "Traceback" not in err and len(err.splitlines()) <= 3
    assert "<script>" not in "".join(page.read_text() for page in folder.glob("report.html"))


def check_folder(seed, run, place, capsys, monkeypatch):
    draw = random.Random(seed)
    monkeypatch.setattr("noderun.report.summary.draw_figures", lambda *arguments: [])  # seconds each
    folder = place / draw.choice(["run", "a b", "[bold]", "=1+1", "x\ny", "\x1b[2J", "<script>", "ü" * 60])
    shutil.copytree(run, folder)
    path = damage(folder, draw)
    before = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file() and not each.is_symlink()}
    read_in_every_way(folder, capsys)
    for each, content in before.items():
        assert each.read_bytes() == content, (each, path)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_folder_is_read_or_refused(seed, run, tmp_path, capsys, monkeypatch):
    check_folder(seed, run, tmp_path, capsys, monkeypatch)


@pytest.mark.long
def test_hundreds_of_damaged_folders_are_read_or_refused(run, tmp_path, capsys, monkeypatch):
    for seed in range(100, 700):
        check_folder(seed, run, tmp_path / str(seed), capsys, monkeypatch)


def idx_file(*sizes, values=None):
    return bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes) + bytes(values or 0)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(values, shape=None):
    """The bytes of an .npy file, whose header may declare another shape than it holds."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue().replace(b"(4, 2)", shape) if shape else file.getvalue()


def tar(content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("set/1.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zip_bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", bytes(100 << 20))
    return file.getvalue()


class Code:
    def __reduce__(self):
        return os.mkdir, ("/tmp/this-must-never-exist",)


TS = b"@problemName x\n@data\n1,2,3:4,5,6:1\n7,8:9,10:2\n"
READERS = {
    "images": (lambda path: idx.parse(path.read_bytes(), path), idx_file(4, 3, 3, values=36)),
    "table.csv": (table_files.read_tables, b"a,b\n1,2\n3,4.5\n-6,7e-3\n"),
    "table.csv.gz": (table_files.read_tables, gzip.compress(b"a,b\n1,2\n3,4.5\n")),
    "table.npy": (table_files.read_tables, npy(np.ones((4, 2)))),
    "table.npz": (table_files.read_tables, npz(train=np.ones((4, 2)), test=np.ones((2, 2)))),
    "series.ts": (series_files.ts_file, TS),
    "series.npy": (series_files.npy_file, npy(np.ones((4, 2)))),
    "series.tar.gz": (physionet.joined, tar(b"Time,Parameter,Value\n00:00,RecordID,1\n00:07,HR,70\n")),
}
BAD = {
    "images": [
        idx_file(2**32 - 1, 2**32 - 1, values=8),
        idx_file(255, values=1),
        b"\0\0\x08\xff",
        b"\0\0\x0d\1\0\0\0\1x",
    ],
    "table.csv": [
        b"a,b\n1,x\n",
        b"\0,\0\n",
        b"a,b\n1,2,3\n1\n",
        b'"' * 1000,
        b"1,inf\n",
        b"=1,+2\n@a,-b\n",
        b"\xff\xfe1,2",
    ],
    "table.csv.gz": [gzip.compress(bytes(100 << 20)), b"not packed", gzip.compress(b"1,2\n")[:-9]],
    "table.npy": [
        npy(np.ones((4, 2)), b"(1 << 60, 2)"),
        npy(np.ones((4, 2)), b"(10**9, 10**9)"),
        npy(np.array([[Code()]])),
    ],
    "table.npz": [zip_bomb(), npz(train=np.array([[Code()]])), npz(), npz(train=np.array("x")), b"PK\3\4"],
    "series.npy": [b"", npy(np.ones((4, 2)), b"(10**9, 10**9)"), npy(np.array([[Code()]])), npy(np.array("x"))],
    "series.tar.gz": [
        gzip.compress(bytes(100 << 20)),
        tar(bytes(100 << 20)),
        b"\x1f\x8b",
        gzip.compress(b"no archive"),
    ],
    "series.ts": [b"", b"@data\n", b"@data\n1,2:3:1\n", b"@data\nx\n", b"@data\n1:\xff\n", b"@data\n1,2:3\n1:a\n"],
}


def read_or_refused(name, content, place):
    path = place / name
    path.write_bytes(content)
    refused(lambda: READERS[name][0](path))
    assert not os.path.exists("/tmp/this-must-never-exist")


@pytest.mark.parametrize("name", READERS)
def test_a_made_up_data_file_is_refused(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(READERS[name][1])
    assert not refused(lambda: READERS[name][0](path))
    for content in BAD[name]:
        path.write_bytes(content)
        assert refused(lambda: READERS[name][0](path)), content[:80]


def test_damaged_data_files_are_read_or_refused(tmp_path):
    draw = random.Random(0)
    for name, (_, content) in itertools.chain.from_iterable([READERS.items()] * 70):
        read_or_refused(name, mutated(content, draw), tmp_path)
