"""Options and classes of a user's own, by --config-dir."""

import re

import pytest
from lines import noderun

from noderun.cli.planning import make_job
from noderun.cli.tasks.list import answer
from noderun.config import config_folder
from noderun.config.compose import Composer
from noderun.config.user_code import search_in
from noderun.config.validation import ConfigError
from noderun.training.compatibility import check


def test_an_option_of_a_group_that_takes_no_class(here, capsys):
    (here / "own/optimizer").mkdir(parents=True)
    (here / "own/optimizer/mine.yaml").write_text("name: mine\nclass: optimizers_of_mine:Mine\n")
    assert noderun("train optimizer=mine --config-dir own") == 2
    takers = "data, model, dynamics, solver, regularizer, problem"
    assert capsys.readouterr().err == f"noderun: optimizer takes no class: of your own, only {takers} do\n"


NETS = """
import torch

class NoModule:
    def __init__(self, state_shape): pass
    def forward(self, t, y): return y

class NoForward(torch.nn.Module):
    def __init__(self, state_shape): pass

class NoTime(NoForward):
    def forward(self, y): return y

class Asks(NoForward):
    def __init__(self, state_shape, width): pass
    def forward(self, t, y): return y

class Good(NoForward):
    def forward(self, t, y, scale=1): return scale * y

number = 3

def takes_nothing(): pass
"""


MISFITS = {
    "NoModule": "class: misfits:NoModule must be a torch.nn.Module with forward(t, y)",
    "NoForward": "class: misfits:NoForward must be a torch.nn.Module with forward(t, y)",
    "NoTime": "forward(t, y): too many positional arguments",
    "Asks": "class: misfits:Asks is called as Asks(state_shape): missing a required argument: 'width'",
    "Good\nspeed: 1": "class: misfits:Good is called as Good(state_shape, speed): got an unexpected keyword",
    "number": "class: misfits:number must be a class or a function, called as number(state_shape)",
    "takes_nothing": "is called as takes_nothing(state_shape): too many positional arguments",
}


@pytest.mark.parametrize("option", MISFITS)
def test_own_code_that_does_not_fit_is_one_sentence(option, here, capsys):
    (here / "own/dynamics").mkdir(parents=True)
    (here / "own/misfits.py").write_text(NETS)
    (here / "own/dynamics/good.yaml").write_text("name: good\nclass: misfits:Good\n")
    (here / "own/dynamics/mine.yaml").write_text(f"name: mine\nclass: misfits:{option}\n")
    composer = Composer("train", [str(here / "own"), str(config_folder())])
    search_in([str(here / "own")])
    check(make_job(composer, ["dynamics=good"]).settings, frozenset())
    with pytest.raises(ConfigError, match=re.escape(MISFITS[option])):
        check(make_job(composer, ["dynamics=mine"]).settings, frozenset())


@pytest.mark.parametrize("group", ["data", "model", "dynamics", "regularizer", "optimizer", "scheduler"])
def test_a_key_that_an_own_option_gives_to_one_of_ours_in_vain(group, here, capsys):
    name = {"data": "digits", "optimizer": "sgd", "scheduler": "cosine", "regularizer": "kinetic"}.get(group, "mlp")
    (here / f"own/{group}").mkdir(parents=True)
    shipped = answer(f"{group}={name}", [config_folder()])
    (here / f"own/{group}/mine.yaml").write_text(f"{shipped}\nfoo: 1\n")
    assert noderun(f"train {group}=mine --config-dir own") == 2
    out, err = capsys.readouterr()
    assert "unexpected keyword argument 'foo'" in err and f"{group}={name}" in err and err.count("\n") == 1


def test_own_options_and_classes(here, trained, capsys):
    own = here / "own"
    (own / "dynamics").mkdir(parents=True)
    (own / "solver").mkdir()
    (own / "dynamics/swirl.yaml").write_text("name: swirl\nclass: fields_of_mine:Swirl\nspeed: 2.0\n")
    (own / "solver/rk4.yaml").write_text("name: rk4\nrtol: 1e-3\natol: 1e-3\ndt: 0.5\nmax_steps: 99\n")
    net = "import torch\nclass Swirl(torch.nn.Module):\n    def __init__(self, state_shape, speed):\n        pass\n"
    (own / "fields_of_mine.py").write_text(f"{net}    def forward(self, t, y):\n        return y\n")
    line = "train dynamics=swirl dynamics.speed=3 solver=rk4 --config-dir own"
    assert noderun(line) == 0
    out, err = capsys.readouterr()
    assert "rk4.yaml is used in place of ours" in err
    (settings,) = trained
    assert settings.dynamics.user_class == "fields_of_mine:Swirl" and settings.dynamics.options == {"speed": 3.0}
    assert settings.solver.dt == 0.5
    with (own / "fields_of_mine.py").open("a") as file:
        file.write("    better = True\n")
    assert noderun(line) == 0
    assert capsys.readouterr().out.splitlines()[-1] != out.splitlines()[-1]  # other source, other run
    assert noderun(line + " dynamics.sped=3") == 2
    assert "did you mean 'dynamics.speed'?" in capsys.readouterr().err
    (own / "dynamics/swirl.yaml").write_text("name: swirl\nclass: fields_of_mine:Swril\n")
    assert noderun("train dynamics=swirl --config-dir own") == 2
    assert "did you mean 'Swirl'?" in capsys.readouterr().err
