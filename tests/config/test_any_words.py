"""Whatever is typed or stands in an option's file: a status, and for wrong words a sentence and no folder."""

import io
import logging
import os
import random
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from types import FunctionType

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from noderun.cli import launching
from noderun.cli.main import FLAGS, main
from noderun.cli.main import TASKS as TASK_KINDS
from noderun.cli.tasks import bench, compare, integrate, sweep
from noderun.cli.tasks.list import answer, groups, options
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.composed import known_keys
from noderun.config.validation import quoted
from noderun.data import DataError
from noderun.training import build

ROOT = config_folder()
GROUPS = groups([ROOT])
OPTIONS = {group: sorted(options(group, [ROOT])) for group in GROUPS}
COMPOSER = Composer("train", [ROOT])
TASKS = [task for task, about in TASK_KINDS.items() if about.kind != "plain"]
TOLD = ("noderun", "usage: noderun", " ")  # of argparse, for plain tasks
few = partial(settings, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def stopped(*_):
    raise DataError("nothing is computed here")


@cache
def of_ours(task):
    return Composer(task, [str(ROOT)])


def composer(task, folders):
    """What it has read of our files serves all examples; a user's change with each."""
    return of_ours(task) if len(folders) == 1 else Composer(task, folders)


@pytest.fixture(scope="module", autouse=True)
def process(tmp_path_factory):
    """An empty current folder, in which nothing is computed; what Hydra does to the process is undone."""
    root, path, environment = logging.getLogger(), list(sys.path), dict(os.environ)
    before, level = list(root.handlers), root.level
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("here"))
        patch.setattr(build, "train_run", stopped)
        patch.setattr(bench, "work", stopped)
        patch.setattr(integrate, "measure", stopped)
        patch.setattr(launching, "Composer", composer)
        for task in (sweep, compare):  # both imported by now, so that each is given back what it had
            patch.setattr(task, "write_grid", lambda folder, jobs, swept: [])
        yield
    root.handlers[:] = before
    root.setLevel(level)
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)


def check_answer(words, kept=()):
    """Runs a command line in process and holds it to the contract."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(words)
    left = set(os.listdir()) - set(kept)
    for name in left:
        shutil.rmtree(name)
    told = err.getvalue()
    assert status in (0, 1, 2, 130)
    assert "Traceback" not in told and "should not have happened" not in told, told
    if status == 2:
        lines = told.split("\n")
        assert out.getvalue() == "" and not left
        assert lines.pop() == "" and 1 <= len(lines) <= 3 and all(line.startswith(TOLD) for line in lines), told


KEYS = sorted({key for task in ("train", "integrate") for key in known_keys(Composer(task, [ROOT]).compose([]))})
KEYS = [key for key in KEYS if not key.startswith("hydra")] + [*GROUPS, "run", "matrix", "figures", "lesion", "suite"]
OF_HYDRA = "run.dir sweep.dir sweep.subdir mode verbose launcher launcher.n_jobs launcher._target_ sweeper foo".split()
key = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from([f"hydra.{name}" for name in OF_HYDRA] + ["hydra/launcher", "hydra/sweeper", "hydra/job_logging"]),
    st.text(max_size=6),
)
value = st.one_of(
    st.sampled_from(
        "null true nan inf 1e400 -1 0 1 0.5 1e-3 [] [1,2] {} {a:1} a.b '' ' ' ??? none basic joblib".split()
    ),
    st.sampled_from(
        "1,2 a,b choice(1,2) range(1,3) glob(*) interval(0,1) sort(2,1) int(1.5) tag(t,1,2) ${seed}".split()
    ),
    st.sampled_from(
        "${nothing} ${oc.env:HOME} ${oc.env:NO,3} ${ \\${x} ../x /proc/x 9999999999999999999 '\\'' a=b".split()
    ),
    st.text(max_size=8),
)
choice = st.sampled_from(GROUPS).flatmap(
    lambda group: st.sampled_from(OPTIONS[group]).map(lambda option: f"{group}={option}")
)
setting = st.tuples(
    st.sampled_from(["", "", "", "+", "++", "~"]), key, st.sampled_from(["=", "=", "=", "", "@x="]), value
)
flag = st.sampled_from([*FLAGS, "--cfg=job", "--info=x", "--cfg=", "-x", "--solver", "--version", "-"])


@st.composite
def mutated(draw, words):
    """A word with a piece of it lost, doubled or replaced."""
    word = draw(words)
    start = draw(st.integers(0, len(word)))
    end = draw(st.integers(start, min(start + 3, len(word))))
    return word[:start] + draw(st.one_of(st.just(""), st.just(2 * word[start:end]), st.text(max_size=2))) + word[end:]


word = st.one_of(choice, setting.map("".join), mutated(choice), mutated(setting.map("".join)), flag)


def fast_and_long(fast, long, *strategies):
    """A test of few examples in `make test`, and the same of many in `make test-long`."""

    def both(check):
        name = f"{check.__name__}_many_times"
        again = FunctionType(check.__code__, globals(), name)  # given() takes each function once
        globals()[name] = pytest.mark.long(few(max_examples=long)(given(*strategies)(again)))
        return few(max_examples=fast)(given(*strategies)(check))

    return both


@fast_and_long(16, 700, st.sampled_from(TASKS), st.lists(word, max_size=4))
@example(task="compare", words=["data=bouncing_ball"])  # refuses each of its models
def test_any_words(task, words):
    check_answer([task, *words])


PLAIN = [task for task in TASK_KINDS if task not in (*TASKS, "doctor", "rerun")]


@fast_and_long(100, 1100, st.sampled_from(PLAIN), st.lists(word, max_size=3))
def test_any_words_of_a_plain_task(task, words):
    check_answer([task, *(["check"] if task == "data" else []), *words])


@pytest.mark.long
def test_fifty_processes(tmp_path):
    """The whole program, as it is started: exit status, at most three lines, no traceback."""
    draw = random.Random(0)
    pool = [
        "model=odnet",
        "tolerance=x",
        "=",
        "a=b",
        "--foo",
        "-m",
        "seed=1,2",
        "model=",
        "solver.dt=nan",
        "~seed",
        "\x1b",
    ]
    pool += ["data=moons", "+x=1", "hydra.run.dir=/proc/x", "--cfg", "job", "--help", "run=/nowhere", "${seed}", "'"]
    for _ in range(50):
        words = [draw.choice([*TASK_KINDS, "trian"]), "data=nothing", *draw.sample(pool, draw.randint(0, 3))]
        found = subprocess.run(
            [sys.executable, "-m", "noderun", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert found.returncode in (0, 1, 2, 130), (words, found)
        assert "Traceback" not in found.stderr and len(found.stderr.splitlines()) <= 3, (words, found.stderr)


@few(max_examples=100)
@given(st.text() | st.text("ab\\'${} ,="))
def test_any_text_can_be_a_value(text):
    (override,) = COMPOSER.parse([f"name={quoted(text)}"])
    assert OmegaConf.create({"a": "b", "name": override.value()}).name == text


scalar = st.one_of(st.none(), st.booleans(), st.integers(-2, 2**70), st.floats(), st.text(max_size=5))
tree = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | scalar, inner, max_size=3),
    max_leaves=6,
)
OWN_KEYS = "name class kind takes uses objective defaults rtol dt options hidden width weight _target_ foo".split()
file = st.sampled_from([name for name in GROUPS if name not in ("lab", "problem")]).flatmap(
    lambda group: st.tuples(
        st.just(group),
        st.one_of(
            mutated(st.sampled_from(OPTIONS[group]).map(lambda name: answer(f"{group}={name}", [ROOT]))),
            st.dictionaries(st.sampled_from(OWN_KEYS) | st.text(max_size=5), tree, max_size=4).map(yaml.safe_dump),
            st.text(max_size=30),
        ),
    )
)


@fast_and_long(10, 200, file, st.binary(max_size=2))
def test_any_file_of_an_option(written, noise):
    group, text = written
    os.makedirs(f"own/{group}", exist_ok=True)
    with open(f"own/{group}/mine.yaml", "wb") as option:
        option.write(text.encode("utf-8", "surrogatepass") + (noise if len(noise) == 2 else b""))
    try:
        check_answer(["train", f"{group}=mine", "--config-dir", "own"], kept=["own"])
        check_answer(["list", group, f"{group}=mine", "--config-dir", "own"], kept=["own"])
    finally:
        shutil.rmtree("own")
