"""What the command line shows without starting anything: help and completion, and what they cost."""

import subprocess
import sys
import time

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from lines import noderun


@pytest.mark.parametrize(
    ("words", "seconds"), [([], 0.2), (["--help"], 0.2), (["trian"], 0.2), (["train", "--help"], 2)]
)
def test_help_answers_at_once(words, seconds, here):
    """The bound is generous, for machines that do much else; what really counts is that nothing heavy is imported."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "noderun", *words], capture_output=True, text=True, check=False
    )
    assert time.perf_counter() - start < 5 * seconds + 1
    heavy = {"torch"} if seconds > 1 else {"torch", "hydra", "omegaconf", "rich", "yaml"}
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & heavy
    if words != ["trian"]:
        task = words[0] if len(words) > 1 else "TASK"
        assert done.returncode == 0 and done.stdout.startswith(f"usage: noderun {task} [")


@pytest.fixture
def composed(monkeypatch):
    """One entry per composition, noderun's own and Hydra's."""
    found = []
    load = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", lambda *a, **k: found.append(k) or load(*a, **k))
    return found


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("train model=stem solver=rk4", 1 + 2),  # the plan's, and Hydra's own
        ("train model=stem seed=1", 2 + 2),  # and the defaults, from which the seed differs
        ("sweep model=stem seed=0,1,2", 3 + 1 + 2 + 3),  # Hydra composes each job
    ],
)
def test_a_job_is_composed_once_by_us(line, times, here, trained, composed):
    assert noderun(line) == 0
    assert len(composed) == times


def test_help_gives_the_reason_of_a_default_for_that_default_alone(here, capsys):
    assert noderun("train model=latent_ode --help") == 0
    shown = capsys.readouterr().out
    assert "chosen: spirals\n" in shown and "real digits" not in shown and "what the field compares against" in shown


def test_help_composes_what_it_shows_once(here, composed, capsys):
    assert noderun("train --help") == 0
    assert len(composed) == 1
    shown = capsys.readouterr().out
    assert "solver: adams, " in shown and "chen2018/mnist" in shown and "  rtol: ${tolerance}" in shown
    assert noderun("train --help --resolve") == 0 and "  rtol: 0.001" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("noderun ", {"train", "sweep"}),
        ("noderun tr", {"train"}),
        ("noderun train solver=dop", {"solver=dopri5"}),
        ("noderun train solver.rt", {"solver.rtol="}),
        ("noderun sweep solver=dopri5,ts", {"solver=dopri5,tsit5"}),
        ("noderun train --c", {"--cfg", "--config-dir"}),
        ("noderun train trainer.precision=b", {"trainer.precision=bf16"}),
        ("noderun train solver=rk4 solver.com", {"solver.compile="}),
        ("noderun train experiment=chen2018/t", {"experiment=chen2018/table1"}),
        ("noderun evaluate run=ru", {"run=runs/"}),
        ("noderun evaluate fig", {"figures="}),
        ("noderun list solver=dopri", {"solver=dopri5", "solver=dopri8"}),
        ("noderun data fetch mnist5", {"mnist5k"}),
        ("noderun runs --s", {"--sort"}),
        ("noderun runs --sort -test", {"-test_error", "-test_loss"}),
        ("noderun runs --sort=opt", {"--sort=optimizer.lr"}),
        ("noderun runs model=ode", {"model=odenet"}),
        ("noderun runs status=", {"status=done", "status=failed"}),
        ("noderun runs --root ru", {"runs/"}),
        ("noderun report --format ", {"png", "pdf", "svg"}),
        ("noderun report --figure figure", {"figure3"}),
        ("noderun report ru", {"runs/"}),
        ("noderun sample runs temp", {"temperature="}),
        ("noderun list --c", {"--config-dir"}),
        ("noderun rerun run=ru", {"run=runs/"}),
        ("noderun doctor --", {"--help"}),
        ("noderun train --config-dir mine data=", {"data=own", "data=moons"}),
    ],
)
def test_completion(line, expected, here, monkeypatch, capsys):
    (here / "runs").mkdir()
    (here / "mine/data").mkdir(parents=True)
    (here / "mine/data/own.yaml").touch()
    monkeypatch.setenv("COMP_LINE", line)
    assert noderun("-sc query=bash") == 0
    found = capsys.readouterr().out.split()
    assert expected <= set(found) and all(word.startswith(line.rpartition(" ")[2]) for word in found)


@pytest.mark.parametrize(
    ("task", "told", "not_told"),
    [
        ("train", ["usage: noderun train [KEY", "training examples only", "--multirun"], ["problem:"]),
        ("sweep", ["usage: noderun sweep", "tolerance=1e-1,1e-2,1e-3,1e-4"], ["problem:", "--multirun"]),
        ("compare", ["usage: noderun compare", "model=resnet,rknet,odenet,mlp"], ["lab:"]),
        (
            "evaluate",
            ["usage: noderun evaluate run=FOLDER", "solver.dt=0.1", "lesion: null"],
            ["model:"],
        ),
        ("integrate", ["usage: noderun integrate", "problem: arenstorf", "t1: null"], ["model:", "--multirun"]),
        ("bench", ["usage: noderun bench", "solve, gradient, training, startup, memory"], ["model:", "lab:"]),
    ],
)
def test_each_task_has_its_own_help(task, told, not_told, here, capsys):
    assert noderun(f"{task} --help") == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in told), shown
    assert not any(f"  {words}" in shown for words in not_told)


def test_completion_can_be_installed(here, capsys):
    assert noderun("-sc install=bash") == 0
    assert "complete" in capsys.readouterr().out
