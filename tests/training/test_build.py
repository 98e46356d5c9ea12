"""Settings put together: devices, solves, models, and a user's own parts."""

import sys
from dataclasses import replace

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
from noderun.config.validation import ConfigError, Incompatible
from noderun.ode import engine
from noderun.ode.configured import ConfiguredSolve
from noderun.training.build import make_device, make_setup, make_solve, train_run
from noderun.training.compatibility import check
from noderun.training.diagnostics import remedy

CPU = torch.device("cpu")
ALL = ("dynamics", "solver", "gradient")


def settings(**parts):
    base = replace(
        make_settings(epochs=1, log_every=1),
        data=Data("digits", limit=40, batch_size=16),
        model=Model("odenet", uses=ALL, options={"stem": "linear", "width": 8}),
        optimizer=Optimizer("adamw"),
        scheduler=Scheduler("one_cycle", horizon=1),
        solver=Solver("dopri5", rtol=1e-2, atol=1e-3),
        gradient=Gradient("adjoint", rtol=1e-1),
    )
    return replace(base, **parts)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert make_device("auto") == make_device("cpu") == CPU
    with pytest.raises(ConfigError, match="device=cuda: this machine has no CUDA device"):
        make_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert make_device("auto") == torch.device("cuda")
    assert make_device("cuda:1") == make_device("1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=r"device=cuda:2: this machine has 2 CUDA device\(s\)"):
        make_device("cuda:2")


def made(settings):
    return make_solve(settings.solver, settings.gradient)


STEPS = {"controller": "I", "norm": "rms", "min_step": 0.0, "per_sample": False}


def test_solve_gets_what_the_settings_say():
    assert made(settings()) == ConfiguredSolve(
        solver="dopri5",
        solver_options={},
        rtol=1e-2,
        atol=1e-3,
        max_steps=10_000,
        **STEPS,
        gradient="adjoint",
        gradient_rtol=1e-1,
        gradient_atol=1e-3,
        gradient_options={},
    )
    fixed = settings(solver=Solver("rk4", rtol=None, atol=None, dt=0.25), gradient=None)
    assert made(fixed) == ConfiguredSolve(
        solver="rk4", solver_options={}, dt=0.25, max_steps=10_000, **STEPS, gradient="backprop"
    )


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "a gradient.rtol below 0.1, or gradient=checkpointed"),
        ({"gradient": Gradient("checkpointed")}, "a tolerance below 0.01"),
        ({"gradient": None}, "a tolerance below 0.01"),
        ({"solver": Solver("rk4", rtol=None, atol=None, dt=0.5)}, "a smaller solver.dt"),
    ],
)
def test_what_would_bring_the_gradient_closer_to_the_flows_is_known(parts, words):
    assert remedy(settings(**parts)) == words


def test_partial_last_batch_counts_as_a_step():
    setup = make_setup(settings(), CPU)
    assert setup.steps_per_epoch == 3
    assert [len(batch) for batch in setup.batches("train", 0, 1)] == [16, 8]


def test_the_learning_rate_follows_the_schedule():
    setup = make_setup(settings(scheduler=Scheduler("step", options={"milestones": (2,), "gamma": 0.5})), CPU)
    assert [setup.lr_schedule(step) for step in (0, 5, 6)] == pytest.approx([3e-3, 3e-3, 1.5e-3])


VECTOR = {"stem": "linear", "width": 8}  # a state that is small and smooth
OPTIONS = {"odenet": VECTOR, "rknet": VECTOR, "resnet": {"width": 32}, "mlp": {"hidden": 8}}


@pytest.mark.parametrize("model", OPTIONS)
def test_models_train(model, tmp_path):
    solves = model in ("odenet", "rknet")
    chosen = settings(
        model=Model(model, uses=ALL if solves else (), options=OPTIONS[model]),
        solver=Solver("rk4", rtol=None, atol=None, dt=0.5) if solves else None,
        dynamics=Dynamics("mlp") if solves else None,
        gradient=None,
        trainer=Trainer(epochs=1, max_steps=2),
    )
    result = train_run(chosen, tmp_path / "run")
    assert result["steps"] == 2
    assert result["nfe_forward"] == (8 if solves else None)


@pytest.mark.parametrize(("parameters", "of_y0", "tangents"), [(98, True, None), (100, False, None), (99, True, 101)])
def test_forward_mode_is_for_few_tangents(parameters, of_y0, tangents):
    """Each costs a pass through every step: a net of thousands would fill the memory of the machine."""
    p, y0 = torch.full((parameters,), 0.1, requires_grad=True), torch.ones(2, requires_grad=of_y0)

    def solve():
        return engine.solve(
            lambda t, y: p.sum() * y, y0, [0.0, 0.1], solver="euler", dt=0.1, gradient="forward", params=[p]
        )

    if tangents is None:
        solve().ys[-1].sum().backward()
        torch.testing.assert_close(p.grad, torch.full((parameters,), 0.2))
    else:
        with pytest.raises(
            ValueError, match=f"would carry {tangents} tangents.* up to 100: use gradient='checkpointed'"
        ):
            solve()


def test_forward_mode_of_a_net_is_refused_before_a_step_is_made(tmp_path):
    chosen = settings(gradient=Gradient("forward"))
    with pytest.raises(ValueError, match=r"gradient='forward' would carry \d+ tangents"):
        train_run(chosen, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


OWN = """
import torch
from torch import nn
from noderun.data import Batch, Dataset, Values
from noderun.models import ODEBlock


class Decay(nn.Module):
    def __init__(self, state_shape, rate=1.0):
        super().__init__()
        self.rate = nn.Parameter(torch.full(state_shape, rate))

    def forward(self, t, y):
        return -self.rate * y


def line(count=32):
    x = torch.linspace(-1, 1, count).reshape(-1, 1)
    rows = Batch(x, 0.5 * x)
    return Dataset("line", (1,), Values((1,)), rows, rows)


class Flow(nn.Module):
    def __init__(self, shape, outputs, make_dynamics, solve, scale):
        super().__init__()
        self.scale = scale
        self.block = ODEBlock(make_dynamics(shape), solve)

    def forward(self, x):
        return self.scale * self.block(x)
"""


def test_a_users_own_dynamics_data_and_model(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [*sys.path])
    search_in([str(tmp_path)])
    chosen = settings(
        data=Data("line", batch_size=8, options={"count": 64}, user_class="own_parts:line"),
        model=Model(
            "flow",
            objective=Objective("regress"),
            takes=("vector",),
            uses=ALL,
            options={"scale": 1.0},
            user_class="own_parts:Flow",
        ),
        dynamics=Dynamics("decay", options={"rate": 0.1}, user_class="own_parts:Decay"),
        optimizer=Optimizer("adam", lr=0.1),
        trainer=Trainer(epochs=8),
        scheduler=Scheduler("constant"),
    )
    result = train_run(chosen, tmp_path / "run")
    assert result["parameters"] == 1 and result["test_error"] is None
    assert result["rmse"] < 0.01  # exp(-rate) = 1/2 is within reach


SOLVER = """
from noderun.ode.solvers.method import Info
from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
from noderun.ode.solvers.rk4 import METHOD


class Mine(ExplicitRungeKutta):
    def __init__(self, half=False):
        vars(self).update(vars(METHOD))
        self.half = half


class Size:
    def __init__(self, power):
        self.power = power

    def __call__(self, y0):
        return lambda f, t, y: (f(t, y), y.abs().pow(self.power).flatten(1).mean(1))
"""


@pytest.fixture
def own_solver(tmp_path, monkeypatch):
    (tmp_path / "own_solver.py").write_text(SOLVER)
    monkeypatch.setattr(sys, "path", [*sys.path])
    search_in([str(tmp_path)])
    return Solver("mine", rtol=None, atol=None, dt=0.5, options={"half": True}, user_class="own_solver:Mine")


def test_a_users_own_solver_is_made_and_given_to_solve(own_solver):
    solve = make_solve(own_solver, None)
    assert type(solve.solver).__name__ == "Mine" and solve.solver.half and solve.solver_options is None
    check(settings(solver=own_solver), set())
    with pytest.raises(ConfigError, match="own_solver:Mine is called as Mine.third.: .*unexpected keyword"):
        check(settings(solver=replace(own_solver, options={"third": 1})), set())
    with pytest.raises(Incompatible, match="solver=mine takes fixed steps only"):
        check(settings(solver=replace(own_solver, dt=None)), set())


def test_a_users_own_regularizer_enters_the_loss(own_solver):
    own = Regularizer("size", weight=0.5, options={"power": 2}, user_class="own_solver:Size")
    model = Model("odenet", uses=(*ALL, "regularizer"), options={"stem": "linear", "width": 8})
    chosen = settings(model=model, regularizer=own)
    check(chosen, set())
    setup = make_setup(chosen, CPU)
    values = setup.values(next(setup.batches("train", 0, 0)))
    assert values["regularizer"] > 0 and setup.penalty_weight == 0.5
    with pytest.raises(ConfigError, match="own_solver:Size is called as Size.*missing a required argument: 'power'"):
        check(settings(model=model, regularizer=replace(own, options={})), set())
