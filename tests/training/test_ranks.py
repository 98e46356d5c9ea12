"""Several ranks train one model: what they learn is what one process learns from the same batches."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_problem import make_settings

from noderun.config.schema import (
    Data,
    Dynamics,
    Gradient,
    Model,
    Objective,
    Optimizer,
    Regularizer,
    Scheduler,
    Solver,
    Trainer,
)
from noderun.config.user_code import search_in
from noderun.config.validation import Incompatible
from noderun.data import Batch
from noderun.data.dataset import _stream
from noderun.ode.gradients import GRADIENTS
from noderun.ode.solvers import NonFiniteDynamics
from noderun.training import build
from noderun.training.build import train_run
from noderun.training.callbacks import Callback
from noderun.training.checkpoint import load_checkpoint
from noderun.training.diagnostics import Diagnostics
from noderun.training.followers import Followers, started
from noderun.training.progress import Diverged
from noderun.training.rank_compatibility import check_ranks
from noderun.training.ranks import RankLost, Ranks, unshareable

ALL = ("dynamics", "solver", "gradient")
PARTS = """
import torch
from torch import nn
from noderun.data import Batch, Dataset, Density, Levels, Series, Values
from noderun.models import ODEBlock
from noderun.objectives import OBJECTIVES, Objective
from noderun.record.metric import METRICS

torch.set_default_dtype(torch.float64)


def points(bad=-1, count=45):
    '''Batches of 11 share unevenly, and the last one has a single row: one of two ranks has none.'''
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float32)
    if bad >= 0:
        x[bad] = 1e9
    rows = Batch(x, x.roll(1, 1).sin())
    return Dataset("points", (2,), Values((2,)), rows, rows)


class Field(nn.Module):
    def __init__(self, state_shape):
        super().__init__()
        self.net = nn.Linear(state_shape[0], state_shape[0])

    def forward(self, t, y):
        return torch.where((y.abs() > 1e6).any(), torch.nan, torch.tanh(self.net(y)) * (1 + t))


class Net(nn.Module):
    def __init__(self, shape, outputs, make_dynamics, solve):
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2)
        self.unused = nn.Parameter(torch.ones(1))
        self.block = ODEBlock(make_dynamics((3,)), solve)

    def forward(self, x):
        return self.last(self.block(self.first(x.double())))


class Squares(Objective):
    metrics, targets = (METRICS["rmse"],), (Values,)

    def __call__(self, model, batch):
        error = (model(batch.inputs) - batch.targets).square().mean(1)
        return {"loss": error.mean(), "mse": error.detach()}


def cloud(count=45):
    rows = points(count=count).train
    return Dataset("cloud", (2,), Density(2), Batch(rows.inputs), Batch(rows.inputs))


def levels(count=45):
    rows = Batch((points(count=count).train.inputs > 0).float())
    return Dataset("levels", (2,), Levels(2, 2), rows, rows)


def curves(count=45):
    times = torch.linspace(0, 1, 5, dtype=torch.float32).expand(count, 5).clone()
    x = points(count=count).train.inputs[:, None] * torch.exp(-times)[..., None]
    rows = Batch(x, x, times, torch.ones(count, 5, dtype=torch.bool))
    return Dataset("curves", (5, 2), Series(2), rows, rows)


class InDouble(Objective):
    '''One of ours, on the same examples in double precision.'''

    def __init__(self, of):
        self.inner = OBJECTIVES[of]() if isinstance(of, str) else of
        self.metrics, self.targets, self.models = self.inner.metrics, self.inner.targets, self.inner.models

    def for_target(self, target):
        return InDouble(self.inner.for_target(target))

    def outputs(self, target):
        return self.inner.outputs(target)

    def __call__(self, model, batch):
        self.inner.step = self.step
        return self.inner(model, batch.map(lambda part: part.double() if part.is_floating_point() else part))
"""


def settings(solver=None, gradient="checkpointed", devices=1, bad=-1, epochs=4, **trainer):
    return replace(
        make_settings(epochs, **{"log_every": 1, "devices": devices, **trainer}),
        data=Data("points", batch_size=11, options={"bad": bad}, user_class="rank_parts:points"),
        model=Model(
            "net",
            objective=Objective("squares", user_class="rank_parts:Squares"),
            takes=("vector",),
            uses=ALL,
            user_class="rank_parts:Net",
        ),
        optimizer=Optimizer("adam", lr=0.03),
        scheduler=Scheduler("constant"),
        dynamics=Dynamics("field", user_class="rank_parts:Field"),
        solver=solver or Solver("rk4", rtol=None, atol=None, dt=0.25),
        gradient=Gradient(gradient),
    )


@pytest.fixture(scope="module", autouse=True)
def parts(tmp_path_factory, restored_process):
    folder = tmp_path_factory.mktemp("parts")
    (folder / "rank_parts.py").write_text(PARTS)
    search_in([str(folder)])


@pytest.fixture(scope="module")
def pair():
    """Called, the followers that all tests have together, or others if a test has killed them."""
    with ExitStack() as stack:
        held = []

        def followers():
            if not held or held[-1].processes[0].poll() is not None:
                held.append(stack.enter_context(started(2)))
            return held[-1]

        yield followers


@pytest.fixture
def train(pair, tmp_path, monkeypatch):
    """Trains in a folder by one rank or, with one follower for all tests, by two; weights, rows and result."""
    monkeypatch.setattr(build, "started", lambda count: nullcontext(pair() if count > 1 else Followers(1)))

    def trained(chosen, name="", measured=False):
        folder = tmp_path / (name or f"{chosen.trainer.devices}")
        with monkeypatch.context() as patch:
            if not measured:  # which takes longer than these runs
                patch.setattr(Diagnostics, "on_test_end", lambda callback, run: None)
            result = train_run(chosen, folder)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return load_checkpoint(folder / "checkpoint.pt")["model"], rows, result

    return trained


def assert_close(ours, alone, within, tags=("loss/train", "loss/test", "optim/grad_norm", "nfe/forward")):
    """Weights and rows of two runs."""
    torch.testing.assert_close(ours[0], alone[0], rtol=0, atol=within)
    for row, other in zip(ours[1], alone[1], strict=True):
        for tag in set(tags) & other.keys():
            assert row[tag] == pytest.approx(other[tag], rel=within, abs=within), (tag, row["step"])


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_fixed_steps_are_those_of_one_process(gradient, train):
    """The parts of a batch have its gradient, to rounding, over 20 steps of Adam."""
    solver = Solver("reversible_heun" if gradient == "reversible" else "rk4", rtol=None, atol=None, dt=0.25)
    epochs = 1 if gradient == "forward" else 4  # of 5 steps; forward mode costs a pass per parameter
    assert_close(*(train(settings(solver, gradient, devices, epochs=epochs)) for devices in (2, 1)), 1e-10)


SMALL = {"latent": 2, "hidden": 4}
DRAWING = {  # what draws in training: the data, the objective and the options of the model
    "vae": ("levels", "elbo", {"latent": 2, "hidden": (4,), "posterior": "ffjord", "flow_hidden": (4,), "rank": 1}),
    "flow_matching": ("cloud", "flow_matching", {"sigma": 0.1}),
    "latent_ode": ("curves", "elbo", {**SMALL, "samples": 2}),
    "latent_sde": ("curves", "elbo", {**SMALL, "width": 4, "samples": 2}),
    "latent_sde of marginals": ("curves", "sde_matching", {**SMALL, "width": 4, "posterior": "marginals"}),
}


@pytest.mark.parametrize("kind", [*DRAWING, "regularizer=jacobian"])
def test_what_is_drawn_in_training_is_what_one_process_draws(kind, train):
    chosen = settings(epochs=2)
    if kind in DRAWING:
        data, objective, options = DRAWING[kind]
        name, stochastic = kind.split()[0], "sde" in kind
        uses = tuple(set(ALL) - {"dynamics"}) if stochastic or kind == "vae" else ALL
        objective = Objective(objective, options={"of": objective}, user_class="rank_parts:InDouble")
        takes = ("series",) if data == "curves" else ("vector",)
        chosen = replace(
            chosen,
            data=Data(data, batch_size=11, user_class=f"rank_parts:{data}"),
            model=Model(name, objective, takes=takes, uses=uses, stochastic=stochastic, options=options),
            dynamics=Dynamics("mlp", options={"hidden": 4}) if "dynamics" in uses else None,
            solver=Solver("euler" if stochastic else "rk4", rtol=None, atol=None, dt=0.25),
        )
    else:
        chosen = replace(chosen, regularizer=Regularizer("jacobian", weight=0.1))
    ranks = replace(chosen, trainer=replace(chosen.trainer, devices=2))
    assert_close(train(ranks), train(chosen), 1e-10)


@pytest.mark.parametrize("kind", ["per_sample", "sync_steps"])
def test_adaptive_steps_that_do_not_depend_on_the_share(kind, train):
    solver = Solver("dopri5", rtol=1e-4, atol=1e-4, **{kind: True})
    assert_close(*(train(settings(solver, devices=devices)) for devices in (2, 1)), 1e-6)


def test_own_steps_agree_within_the_tolerance(train):
    solver = Solver("dopri5", rtol=1e-4, atol=1e-4)
    ours, alone = (train(settings(solver, "adjoint", devices)) for devices in (2, 1))
    assert_close(ours, alone, 1e-3, ("loss/train",))
    assert max((ours[0][name] - weight).abs().max() for name, weight in alone[0].items()) > 1e-6


def test_lbfgs_searches_along_the_loss_of_the_whole_batch(train):
    chosen = replace(settings(epochs=1), optimizer=Optimizer("lbfgs", lr=1.0))
    chosen = replace(chosen, data=replace(chosen.data, batch_size=45))
    two = replace(chosen, trainer=replace(chosen.trainer, devices=2))
    assert_close(train(two), train(chosen), 1e-6)


def test_a_run_is_resumed_by_another_number_of_ranks(train):
    whole = train(settings())
    train(settings(devices=2, epochs=2), "resumed")
    assert_close(train(settings(devices=1), "resumed"), whole, 1e-10)


def test_a_budget_of_seconds_is_that_of_rank_0(train):
    _, rows, result = train(settings(devices=2, epochs=1, max_seconds=0.2), measured=True)
    assert result["training_seconds"] >= 0.2 and rows[-1]["step"] == result["steps"]


@pytest.mark.parametrize(
    ("row", "kind", "whose"),
    [(10, Diverged, "rank 1: .* NaN .* epoch 1, step 1"), (0, NonFiniteDynamics, "^the solution became NaN")],
)
def test_a_rank_that_fails_ends_all_with_its_own_words(row, kind, whose, train, caplog):
    """All go back together; both ranks are well afterwards, since the tests that follow train with them."""
    order = torch.randperm(45, generator=torch.Generator().manual_seed(_stream(0, 0)))
    with pytest.raises(kind, match=whose):
        train(settings(devices=2, bad=int(order[row]), on_nonfinite="restore"))
    assert caplog.text.count("back to the last checkpoint") == 3


class Killer(Callback):
    def __init__(self, process):
        self.process = process

    def on_epoch_start(self, run):
        if run.progress.epoch == 1:
            self.process.kill()


def test_a_rank_that_is_killed_leaves_a_run_that_goes_on(pair, train, tmp_path):
    """Of 20 steps 5 were made before: the rest by one process gives what one process gives."""
    with pytest.raises(RankLost, match="ended without a word"):
        train_run(settings(devices=2), tmp_path / "killed", [Killer(pair().processes[0])])
    assert load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["scheduler"]["step"] == 5
    torch.testing.assert_close(train(settings(), "killed")[0], train(settings())[0], rtol=0, atol=1e-10)


def test_the_shares_of_a_batch():
    for count in range(1, 6):
        for size in range(1, 12):
            batch = Batch(torch.arange(size).double())
            shares = [Ranks(index, count).share(batch) for index in range(count)]
            whole = torch.cat([rows.inputs for rows, part in shares if part])
            assert torch.equal(whole, batch.inputs)
            mean = sum(part * rows.inputs.mean() for rows, part in shares) / count
            torch.testing.assert_close(mean, batch.inputs.mean())


@pytest.mark.parametrize("part", [torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5)])
def test_what_looks_beyond_an_example_is_refused(part):
    assert "trainer.devices: 0 is a" in unshareable(torch.nn.Sequential(part))
    assert unshareable(torch.nn.Sequential(torch.nn.Dropout(0.0), torch.nn.GroupNorm(1, 2))) is None


def of_ours(model="odenet", options=None, **parts):
    base = replace(settings(devices=2), data=Data("moons", batch_size=16), dynamics=Dynamics("mlp"))
    objective = Objective("classify" if model == "odenet" else "density")
    return replace(base, model=Model(model, objective, takes=("vector",), uses=ALL, options=options or {}), **parts)


TRAINER = Trainer(devices=2)
DOPRI5 = Solver("dopri5", sync_steps=True)
WRONG = {
    "data.batch_size=1 leaves some": of_ours(data=Data("moons", batch_size=1)),
    "on_nonfinite=skip": of_ours(trainer=replace(TRAINER, on_nonfinite="skip")),
    "model.double_at": of_ours(options={"double_at": (1,)}),
    "model.batch_norm": of_ours("ffjord", {"batch_norm": True, "blocks": 2}),
    "model.coupling=ot pairs": of_ours("flow_matching", {"coupling": "ot"}),
    "fixed ones were chosen": of_ours(solver=Solver("dopri5", dt=0.1, rtol=None, atol=None, sync_steps=True)),
    "each example has its own steps": of_ours(solver=replace(DOPRI5, per_sample=True)),
    "solver=radau5 is none": of_ours(solver=replace(DOPRI5, name="radau5")),
    "leave the norm out": of_ours(solver=replace(DOPRI5, norm="max")),
    "gradient=adjoint makes another one": of_ours(solver=DOPRI5, gradient=Gradient("adjoint")),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_ranks_cannot_share_is_refused_before_the_start(sentence):
    with pytest.raises(Incompatible, match=sentence):
        check_ranks(WRONG[sentence], False)


WORDS = """train data=moons data.examples=96 data.batch_size=16 model.stem=none model.augment=1 dynamics=mlp solver=rk4
trainer.log_every=1 device=cpu log=quiet""".split()


def command(words, folder, start=()):
    where = [f"hydra.run.dir={folder}", *words]
    return [sys.executable, *start, "-m", "noderun", *WORDS, *where]


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss/train"] for row in rows if "loss/train" in row]


@pytest.mark.long
def test_torchrun_trains_what_one_process_trains(tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    for name, start in (("two", launcher), ("one", ())):
        for _ in range(2):  # the second time it is done already, and all of them end
            done = subprocess.run(command(["trainer.epochs=2"], tmp_path / name, start), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert done.stdout.splitlines()[-1] == str(tmp_path / name)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_ends_all_ranks_and_the_same_command_continues(number, status, tmp_path):
    folder = tmp_path / "run"
    words = ["trainer.epochs=100000", "trainer.checkpoint_seconds=0.1", "trainer.devices=2"]
    running = subprocess.Popen(command(words, folder), start_new_session=True, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and not (folder / "checkpoint.pt").exists():
        time.sleep(0.05)
    followers = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert len(followers) == 1
    os.killpg(running.pid, number)
    _, told = running.communicate(timeout=60)
    assert running.returncode == status, told
    assert "Traceback" not in told
    end = time.monotonic() + 20
    while Path(f"/proc/{followers[0]}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{followers[0]}").exists()
    steps = load_checkpoint(folder / "checkpoint.pt")["scheduler"]["step"]
    again = subprocess.run(
        command([words[0], f"trainer.max_steps={steps + 5}"], folder), capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert len(losses(folder)) == json.loads((folder / "result.json").read_text())["steps"] == steps + 5
