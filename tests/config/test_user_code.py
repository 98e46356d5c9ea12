"""A user's own code runs where its user named it, and what else lies about does not."""

import importlib
import json
import subprocess
import sys

import pytest
import yaml

from noderun.cli.main import main
from noderun.config import user_code
from noderun.config.schema import OWN_PARTS
from noderun.config.validation import ConfigError

TINY = (
    "train data=moons data.examples=64 data.batch_size=32 model.stem=none trainer.max_steps=1 trainer.epochs=1 "
    "device=cpu log=quiet"
).split()
SWIRL = """
import torch

class Swirl(torch.nn.Module):
    def __init__(self, state_shape, speed=1.0):
        super().__init__()
        self.linear = torch.nn.Linear(*state_shape, *state_shape)

    def forward(self, t, y):
        return self.linear(y)
"""


pytestmark = pytest.mark.usefixtures("restored_process")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refusal(capsys):
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("noderun: "), err
    return err


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A finished run with the user's own dynamics, and the config folder that names it."""
    place = tmp_path_factory.mktemp("own")
    option = "name: swirl\nclass: swirls_of_mine:Swirl\nspeed: 2.0\n"
    mine = write(place / "mine", {"swirls_of_mine.py": SWIRL, "dynamics/swirl.yaml": option})
    words = ["--config-dir", str(mine), "dynamics=swirl", f"hydra.run.dir={place}/run"]
    assert main([*TINY, *words]) == 0
    return place / "run", mine


def test_an_own_run_is_evaluated_with_the_folder_that_names_its_class(own, here, capsys):
    run, mine = own
    words = ["evaluate", f"run={run}", "solver=rk4", "device=cpu", "log=quiet"]
    assert main(words) == 2
    assert "class: swirls_of_mine:Swirl" in (err := refusal(capsys)) and "--config-dir DIR" in err
    assert main([*words, "--config-dir", str(write(here / "other", {"dynamics/swirl.yaml": "name: mlp\n"}))]) == 2
    assert "class: swirls_of_mine:Swirl" in capsys.readouterr().err
    assert main([*words, "--config-dir", str(mine)]) == 0


def sent(run, folder, **changes):
    """A run's folder as somebody may send it: its config.yaml says what they like."""
    for name in ("status.json", "result.json", "checkpoint.pt", ".hydra/config.yaml", ".hydra/overrides.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((run / name).read_bytes())
    path = folder / ".hydra/config.yaml"
    config = yaml.safe_load(path.read_text())
    for group, values in changes.items():
        config[group] = config[group] | values if isinstance(values, dict) else values
    path.write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.parametrize("group", OWN_PARTS)
def test_code_that_only_a_stored_config_names_does_not_run(group, own, here, capsys):
    theirs = {"class": "subprocess:check_output", "args": ["touch", "ran"]}
    folder = sent(own[0], here / "theirs", **{group: theirs})
    for words in ([], ["--config-dir", str(own[1])]):
        assert main(["evaluate", f"run={folder}", *words, "device=cpu"]) == 2
        assert "subprocess:check_output" in capsys.readouterr().err or (not words and group != "data")
    assert not (here / "ran").exists() and not (folder / "evaluate").exists()


def test_trust_lets_the_code_of_a_folder_run(own, here, capsys):
    run, mine = own
    write(here, {"their_code.py": (mine / "swirls_of_mine.py").read_text() + "open('ran', 'w').close()\n"})
    folder = sent(run, here / "theirs", dynamics={"class": "their_code:Swirl"})
    words = ["evaluate", f"run={folder}", "solver=rk4", "device=cpu", "log=quiet"]
    sys.path.append(str(here))
    assert main(words) == 2 and "--trust if the folder is yours" in refusal(capsys)
    assert not (here / "ran").exists()
    assert main([*words, "--trust"]) == 0 and (here / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"tolerance": "${oc.env:SECRET}"},
        {"solver": {"rtol": "${oc.env:SECRET}"}},
        {"solver": {"name": "${oc.env:SECRET}"}},
        {"solver": {"name": "../../theirs/solver"}},
        {"solver": {"more": "${oc.env:SECRET}"}},
        {"solver": {"more=1,2 hydra/launcher": "x"}},
        {"solver": {"_target_": "subprocess.check_output", "_args_": [["touch", "ran"]]}},
    ],
)
def test_references_and_targets_of_a_stored_config_do_nothing(changes, own, here, monkeypatch, capsys):
    monkeypatch.setenv("SECRET", "a secret of mine")
    folder = sent(own[0], write(here / "theirs", {"solver.yaml": "name: ${oc.env:SECRET}"}), **changes)
    assert main(["evaluate", f"run={folder}", "--config-dir", str(own[1]), "device=cpu"]) == 2
    assert "a secret of mine" not in refusal(capsys)
    assert not (here / "ran").exists()


def test_modules_where_somebody_stands_are_not_imported(own, here):
    bystanders = ("statistics", "sklearn", "tomllib", "pandas", "noderun_plugin")
    write(here, {f"{name}.py": f"open('ran', 'a').write('{name} ')" for name in bystanders})
    run, mine = own
    for words in ([*TINY[:1], "data=digits", "data.limit=32", *TINY[3:]], ["evaluate", f"run={run}", "tolerance=1e-2"]):
        command = [sys.executable, "-m", "noderun", *words, "device=cpu", "--config-dir", str(mine)]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not (here / "ran").exists(), (here / "ran").read_text()


def test_the_folder_of_a_named_module_hides_nothing(here, monkeypatch):
    write(here / "mine", {"fields_with_a_friend.py": "import a_friend\nf = a_friend.f", "a_friend.py": "f = print"})
    write(here / "mine", {"sched.py": "raise SystemExit('this one was not named')", "unnamed/x.py": ""})
    before = list(sys.path)
    user_code.search_in([str(here / "mine"), str(here)])
    assert sys.path == before
    assert user_code.load("fields_with_a_friend:f") is print
    assert sys.path == [*before, str(here / "mine")]
    monkeypatch.delitem(sys.modules, "sched", raising=False)
    assert callable(importlib.import_module("sched").scheduler)


BROKEN = {
    "sched:f": ("f = 1", "would hide the module 'sched'"),
    "syntax_of_mine:f": ("x = 1\ndef f(:\n", "syntax_of_mine.py:2: invalid syntax"),
    "import_of_mine:f": ("\nimport nothing_by_this_name\n", "import_of_mine.py:2: ModuleNotFoundError"),
    "raises_in_mine:f": ("def g():\n    return 1 / 0\ng()\n", "raises_in_mine.py:2: ZeroDivisionError"),
    "exits_in_mine:f": ("import sys\nsys.exit(0)\n", "exits_in_mine.py:2: SystemExit: 0"),
    "lines_in_mine:f": ("raise ValueError('one\\ntwo\\nthree')\n", "lines_in_mine.py:1: ValueError: one"),
    "nothing_in_mine:f": ("ff = print", "no 'f' in"),
    "package_of_mine.part:f": ("", "no module 'package_of_mine.part'"),
    "sys:exit": ("", "has no source file"),
    "__main__:f": ("", "__main__"),
    ".relative:f": ("", "class must be module:Name"),
    "a b:f": ("", "class must be module:Name"),
    "module": ("", "class must be module:Name"),
}


@pytest.mark.parametrize("reference", BROKEN)
def test_code_that_cannot_be_loaded_is_one_sentence(reference, here):
    text, words = BROKEN[reference]
    write(here, {f"{reference.partition(':')[0]}.py": text} if text else {})
    user_code.search_in([str(here)])
    with pytest.raises(ConfigError) as caught:
        user_code.load(reference)
    assert words in str(caught.value) and "\n" not in str(caught.value)


PARTS = """
from noderun.ode.solvers import METHODS
from noderun.regularizers import REGULARIZERS
from noderun.objectives import OBJECTIVES

def make_solver(method):
    return METHODS[method]

def make_regularizer(power):
    assert power == 2
    return REGULARIZERS["kinetic"]()

class Scaled(OBJECTIVES["classify"]):
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, model, batch):
        found = super().__call__(model, batch)
        return found | {"loss": self.factor * found["loss"]}
"""
STEPS = "rtol: ${tolerance}\natol: ${tolerance}\ndt: 0.25\n"
FILES = {
    "parts_of_mine.py": PARTS,
    "solver/mine.yaml": "name: mine\nclass: parts_of_mine:make_solver\nmethod: heun3\n" + STEPS,
    "regularizer/mine.yaml": "name: mine\nclass: parts_of_mine:make_regularizer\nweight: 0.1\npower: 2\n",
    "model/mine.yaml": "defaults: [odenet]\nobjective: {class: 'parts_of_mine:Scaled', factor: 0.0}\n",
}


def test_an_own_solver_regularizer_and_objective_are_made_from_their_keys(here, capsys):
    """With a loss that is nothing, only the penalty moves the weights; heun3 costs three evaluations per step."""
    mine = write(here / "mine", FILES)
    words = ["solver=mine", "regularizer=mine", "model=mine", "gradient=backprop", "dynamics=mlp"]
    assert main([*TINY, *words, "--config-dir", str(mine), f"hydra.run.dir={here}/run"]) == 0
    result = json.loads((here / "run/result.json").read_text())
    assert result["test_loss"] == 0.0 < result["train_loss"] and result["nfe_forward"] == 12
    identity = json.loads((here / "run/status.json").read_text())["identity"]
    for key in ("solver.class", "regularizer.class", "model.objective.class"):
        reference, source = identity[key].split()
        assert reference.startswith("parts_of_mine:") and len(source) == 8
    capsys.readouterr()
    assert main(["evaluate", f"run={here}/run", "device=cpu", "log=quiet"]) == 2
    assert "names code of its own" in refusal(capsys)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["solver=mine", "solver.method=rk44"],
            "solver=mine: class: parts_of_mine:make_solver raises KeyError: 'rk44'",
        ),
        (["solver=mine", "solver.class=parts_of_mine:PARTS"], "cannot be set; choose another solver"),
        (["solver=other"], "makes a str, not a noderun.ode.solvers.Method"),
        (["model=mine", "+model.objective.scale=3"], "no setting 'model.objective.scale'"),
        (["model=other"], "model.objective: class: parts_of_mine:Scaled does not take its keys: missing"),
    ],
)
def test_own_parts_that_do_not_fit_are_refused(words, sentence, here, capsys):
    other = {
        "solver/other.yaml": "name: other\nclass: builtin_of_mine:f\n" + STEPS,
        "builtin_of_mine.py": "def f():\n    return 'x'\n",
        "model/other.yaml": "defaults: [odenet]\nobjective: {class: 'parts_of_mine:Scaled'}\n",
    }
    mine = write(here / "mine", FILES | other)
    assert main([*TINY, "gradient=backprop", "dynamics=mlp", *words, "--config-dir", str(mine)]) == 2
    assert sentence in refusal(capsys)
