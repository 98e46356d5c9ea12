"""Contenders compute the same before anything is timed."""

from dataclasses import replace

import pytest
import torch

from noderun.benchmarks import problems
from noderun.benchmarks.bench import run_case
from noderun.benchmarks.case import LIMIT, Failure
from noderun.benchmarks.cases import solve_case
from noderun.benchmarks.controlled import controlled_case
from noderun.benchmarks.crossings import crossing_case
from noderun.benchmarks.latent import latent_case
from noderun.benchmarks.objectives import FFJORD, Block, ConcatConv, LatentODE
from noderun.benchmarks.step import step_case
from noderun.benchmarks.training import MODES, pass_case


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("make", "tight"), [(Block, 0.3), (FFJORD, 1e-3), (LatentODE, 1e-2)])
def test_published_models_have_one_gradient_in_all_libraries(make, tight, mode):
    torch.manual_seed(0)
    errors = {name: error() for name, error in pass_case(make(2), mode).errors.items()}
    assert f"torchdiffeq {mode}" in errors and max(errors.values()) < tight


def test_the_whole_net_has_one_gradient_with_either_form_of_time():
    case = step_case(2, "cpu")
    errors = {name: error() for name, error in case.errors.items()}
    ours = {f"noderun {gradient}" for gradient in ("backprop", "checkpointed", "adjoint")}
    assert errors.keys() == ours | {"torchdiffeq backprop", "torchdiffeq adjoint"}
    assert max(errors.values()) < case.allowed


SERIES = {
    controlled_case: {"bare loop", "noderun backprop", "torchcde rk4, backprop", "torchcde by default"},
    latent_case: {"noderun backprop", "noderun tsit5, fixed steps", "torchdiffeq backprop", "torchdiffeq adjoint"},
    crossing_case: {"noderun", "torchdiffeq, one by one"},
}


@pytest.mark.parametrize(("make", "contenders"), SERIES.items())
def test_models_of_series_have_one_gradient_in_all_libraries_of_torch(make, contenders):
    case = make("cpu", quick=True)
    errors = {name: error() for name, error in case.errors.items() if not name.startswith("diffrax")}
    assert contenders <= errors.keys() and max(errors.values()) < case.allowed
    if "bare loop" in contenders:
        assert errors["noderun backprop"] == pytest.approx(errors["bare loop"], rel=1e-2)


@pytest.mark.long  # compilations
@pytest.mark.parametrize("make", SERIES)
def test_models_of_series_have_that_gradient_in_diffrax(make):
    case = make("cpu", quick=True)
    errors = [error() for name, error in case.errors.items() if name.startswith("diffrax")]
    assert errors and max(errors) < case.allowed


def test_published_sizes():
    count = {make: sum(p.numel() for p in make(1).f.parameters()) for make in (FFJORD, LatentODE)}
    assert count[FFJORD] == 9_225 - 1  # the authors' has its end time T as one more
    assert count[LatentODE] == 4 * 20 + 20 + 20 * 20 + 20 + 20 * 4 + 4
    assert sum(p.numel() for p in ConcatConv((64, 6, 6)).parameters()) == 208_266 - 132_874  # less the stem-only net


def test_the_divergence_is_that_of_autograd_in_full():
    torch.manual_seed(0)
    f = FFJORD(3)
    t = torch.tensor(0.2)
    dx, divergence = f.f(t, f.start())
    whole = torch.autograd.functional.jacobian(lambda x: f.f(t, (x, x[:, 0]))[0], f.x)
    torch.testing.assert_close(divergence, torch.einsum("ijij->i", whole))
    assert dx.shape == f.x.shape


def broken():
    raise RuntimeError("no luck today\nat all")


@pytest.mark.parametrize(
    ("error", "why"), [(lambda: 10.0, "relative error 1.0e+01, more than 1e-01"), (broken, "no luck today")]
)
def test_a_contender_that_computes_something_else_or_nothing_is_not_timed_and_the_others_are(error, why):
    case = solve_case(problems.mlp(4, 1e-3))
    kept = {name: case.contenders[name] for name in (LIMIT, "noderun", "torchdiffeq")}
    rows, failures = run_case(replace(case, contenders=kept, errors={"noderun": error}), rounds=1, seconds=1e-3)
    assert [row.contender for row in rows] == [LIMIT, "torchdiffeq"]
    assert failures == [Failure("solve", case.name, "noderun", why)]


def test_nothing_is_timed_over_a_limit_that_fails():
    case = solve_case(problems.mlp(4, 1e-3))
    kept = {LIMIT: broken, "noderun": case.contenders["noderun"]}
    rows, failures = run_case(replace(case, contenders=kept), rounds=1, seconds=1e-3)
    assert not rows and [failure.failure for failure in failures] == ["no luck today", "not timed, for limit failed"]
