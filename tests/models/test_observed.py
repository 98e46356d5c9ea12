"""Models of systems whose state is observed: times and units, what is learned, and intervals against scipy's."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

from noderun import solve
from noderun.data import SETS, Batch, DataError, Dataset, Series
from noderun.data.mechanics import bounced
from noderun.data.system import System
from noderun.dynamics import DYNAMICS
from noderun.evaluation.identification import QUANTILE, parameter_rows, phase_rows
from noderun.models import MODELS
from noderun.objectives import OBJECTIVES
from noderun.ode.configured import ConfiguredSolve

TIGHT = ConfiguredSolve(rtol=1e-8, atol=1e-8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def read(name, **options):
    return SETS[name].read(Path(), **options)


def make(name, dataset, dynamics="mlp", solve=TIGHT, **options):
    used = {} if name == "hamiltonian_nn" else {"make_dynamics": DYNAMICS[dynamics]}
    model = MODELS[name](dataset.shape, dataset.target.outputs, **used, solve=solve, **options)
    model.prepare_for(dataset)
    return model


def in_units(dataset, values):
    return torch.tensor(dataset.target.mean) + torch.tensor(dataset.target.scale) * values


def test_orbits_are_those_of_newtons_equations():
    dataset = read("two_body", examples=4)
    orbits, times = in_units(dataset, dataset.train.inputs), dataset.train.times[0].double().numpy()
    field = dataset.target.system.field
    for orbit in orbits.double():
        f = lambda t, y: field(torch.as_tensor(y)).numpy()  # noqa: E731
        exact = solve_ivp(f, (0, 20), orbit[0].numpy(), "DOP853", times, rtol=1e-11, atol=1e-12).y.T
        assert abs(exact - orbit.numpy()).max() < 1e-5
    assert dataset.target.system.energy(orbits).std(1).max() < 1e-5


def test_a_bouncing_balls_height_is_that_of_its_solve():
    times = torch.linspace(0, 2, 21, dtype=torch.float64)
    known = DYNAMICS["bouncing_ball"]((1,), restitution=0.7).double()
    start = torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    sol = solve(known, start, times, per_sample=True, events=known.events(torch.zeros(1).long()), rtol=1e-9, atol=1e-9)
    heights = bounced(torch.tensor([[1.5]], dtype=torch.float64), torch.tensor([[0.7]]), times)
    torch.testing.assert_close(sol.ys[:, 0, 0], heights[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("per_sample", [None, True])
def test_series_of_other_times_are_solved_as_each_alone(per_sample):
    inputs, mask = torch.randn(3, 4, 2), torch.ones(3, 4, 2, dtype=torch.bool)
    mask[1, 0] = False
    times, asked = torch.rand(3, 4).sort(1).values, 1 + torch.rand(3, 5).sort(1).values
    net = DYNAMICS["mlp"]((2,), hidden=8)
    solve = replace(TIGHT, per_sample=per_sample)
    model = MODELS["neural_ode"]((4, 2), 2, lambda shape: net, solve)
    together = model(inputs, times, mask, asked)
    assert together.shape == (3, 5, 2)
    for i in range(3):
        first = 1 if i == 1 else 0
        ts = torch.cat([torch.zeros(1), asked[i] - times[i, 0]])
        torch.testing.assert_close(TIGHT(net, inputs[i, first][None], ts).ys[1:, 0], together[i], atol=1e-5, rtol=1e-5)


def test_units_do_not_matter_to_the_field():
    dataset = read("cubic_spiral", points=60)
    model = make("neural_ode", dataset)
    y, h = in_units(dataset, dataset.train.inputs[5, :1]), 1e-3
    ahead = model(dataset.train.inputs[5:6, :1], torch.zeros(1, 1), None, torch.tensor([[h]]))
    change = (in_units(dataset, ahead)[0] - y) / h
    torch.testing.assert_close(change, model.field(torch.tensor(0.0), y), atol=2e-2, rtol=2e-2)


def test_second_order_moves_positions_by_speeds():
    dataset = read("two_body", examples=4)
    model = make("neural_ode", dataset, order=2)
    states = in_units(dataset, dataset.train.inputs[0])
    torch.testing.assert_close(model.field(torch.tensor(0.0), states)[:, :4], states[:, 4:])


@pytest.mark.parametrize("name", ["yoshida4", "dopri5"])
def test_a_symplectic_solver_takes_positions_and_momenta_in_turn(name):
    """H = |q|^2 / 2 - cos p_1 - ... is separable, as a net's is not: its energy stays."""
    dataset = read("two_body", examples=2)
    coarse = ConfiguredSolve(name, dt=0.02) if name == "yoshida4" else TIGHT
    model = make("hamiltonian_nn", dataset, solve=coarse, hidden=8)
    q, p = torch.eye(4), torch.zeros(4, 4)

    class Separable(torch.nn.Module):
        def forward(self, y):
            return y[:, :4].square().sum(1) / 2 - y[:, 4:].cos().sum(1)

    model.dynamics.energy = energy = Separable()
    y = model.states(torch.cat([q, p], dim=1)[:2], torch.linspace(0, 4, 5).expand(2, 5), None)
    drift = energy(y.flatten(0, 1)).view(2, 5) + 3.5
    assert model.pair == (name == "yoshida4") and drift.abs().max() < 1e-4


def test_the_derivative_is_learned_without_a_solve_and_tested_with_one():
    dataset = read("two_body", examples=4)
    model = make("hamiltonian_nn", dataset, solve=replace(TIGHT, rtol=1e-6, atol=1e-6))
    objective = OBJECTIVES["derivative"]().for_target(dataset.target)
    assert [metric.name for metric in objective.metrics] == ["rmse", "energy_error"]
    values = objective(model, dataset.train)
    assert values.keys() == {"loss"} and model.block.stats is None
    model.field = lambda t, y: dataset.target.system.field(y)
    assert objective(model, dataset.train)["loss"] < 1e-10
    model.block.dynamics = type("True", (torch.nn.Module,), {"forward": lambda self, t, y: model.field(t, y)})()
    tested = objective(model.eval(), dataset.test)
    assert tested["energy_error"].max() < 1e-8 and tested["mse"].max() < 1e-6
    with pytest.raises(DataError, match="true derivative"):
        OBJECTIVES["derivative"]().for_target(Series(2))


RATES = dict(alpha=0.6, beta=0.03, gamma=0.8, delta=0.025)


def predators_and_prey(noise=0.1):
    """A series like that of lynx and hare, with lognormal noise."""
    times = torch.arange(21.0)
    f = DYNAMICS["lotka_volterra"]((2,), **RATES).double()
    start = torch.tensor([[30.0, 6.0]], dtype=torch.float64)
    truth = solve(f, start, times, rtol=1e-9, atol=1e-9).ys.transpose(0, 1).detach()
    values = (truth * torch.exp(noise * torch.randn(truth.shape))).float()
    rows = Batch(values, values, times.expand(1, -1), torch.ones(1, 21, 2, dtype=torch.bool))
    known = System(parameters={name: torch.tensor(value) for name, value in RATES.items()})
    return Dataset("pelts", (21, 2), Series(2, system=known), rows, rows)


def fitted(model, dataset, iterations):
    rows = replace(dataset.train, index=torch.arange(len(dataset.train)))
    objective = OBJECTIVES["trajectory"]().for_target(dataset.target)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=iterations, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def closure():
        optimizer.zero_grad()
        loss = objective(model, rows)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    return SimpleNamespace(model=model, objective=objective, batches=lambda *which: iter([rows]))


def test_physics_finds_the_parameters_and_the_intervals_of_scipys_least_squares():
    dataset = predators_and_prey()
    solve = replace(TIGHT, rtol=1e-5, atol=1e-5)
    guess = partial(DYNAMICS["lotka_volterra"], alpha=0.7, gamma=0.7, beta=0.025, delta=0.02)
    model = MODELS["physics"](
        dataset.shape, 2, guess, solve, noise="lognormal", initial="learned", starts=4, spread=0.2
    )
    model.prepare_for(dataset)
    found = {row["parameter"]: row for row in parameter_rows(fitted(model, dataset, 30))}
    values = dataset.train.inputs[0].double().numpy()

    def residuals(logs):
        a, b, c, d, *start = numpy.exp(logs)
        f = lambda t, y: [(a - b * y[1]) * y[0], (-c + d * y[0]) * y[1]]  # noqa: E731
        path = solve_ivp(f, (0, 20), start, "DOP853", numpy.arange(21.0), rtol=1e-9, atol=1e-9).y.T
        return (numpy.log(path) - numpy.log(values)).ravel()

    ours = [math.log(row["estimate"]) for row in found.values()]
    fit = least_squares(residuals, ours, x_scale=0.1)
    weights = numpy.sqrt((residuals(fit.x).reshape(-1, 2) ** 2).sum(0) / (21 - 3))
    scaled = fit.jac / numpy.tile(weights, 21)[:, None]
    deviation = numpy.sqrt(numpy.diag(numpy.linalg.inv(scaled.T @ scaled)))
    # The likelihood weights the two channels by their noise, the squares do not
    assert abs(numpy.array(ours) - fit.x).max() < 0.5 * deviation.min()
    widths = [math.log(row["high"] / row["low"]) / (2 * QUANTILE) for row in found.values()]
    numpy.testing.assert_allclose(widths, deviation, rtol=0.1)
    for name, value in RATES.items():
        assert abs(math.log(found[name]["estimate"] / value)) < 4 * dict(zip(found, deviation, strict=True))[name]
        assert found[name]["true"] == pytest.approx(value)


def test_a_hybrid_starts_at_its_lowest_heights_and_learns_through_its_bounces():
    dataset = read("bouncing_ball", examples=3, points=30, span=1.2)
    model = make("hybrid", dataset, "bouncing_ball", ConfiguredSolve(rtol=1e-6, atol=1e-6), initial="learned")
    lowest = in_units(dataset, dataset.train.inputs).amin((1, 2))
    torch.testing.assert_close(model.known.floor.detach(), lowest)
    setup = fitted(model, dataset, 25)
    found = parameter_rows(setup)
    errors = [
        abs(row["estimate"] - row["true"]) / ((row["high"] - row["low"]) / 2 / QUANTILE)
        for row in found
        if row["true"] is not None
    ]
    assert len(errors) == 6 and max(errors) < 4
    widths = [row["high"] - row["low"] for row in found if row["name"] == "restitution"]
    assert max(widths) < 0.1


def test_what_cannot_be_identified_is_said():
    spiral, ball = read("cubic_spiral", points=60), read("bouncing_ball", examples=3)
    with pytest.raises(DataError, match="other series"):
        make("physics", spiral, "pendulum", initial="learned")
    with pytest.raises(DataError, match="lognormal is of positive values"):
        make("physics", spiral, "pendulum", noise="lognormal")
    with pytest.raises(ValueError, match="needs dynamics with events"):
        make("hybrid", ball)
    setup = SimpleNamespace(model=make("neural_ode", spiral), objective=OBJECTIVES["trajectory"]())
    with pytest.raises(ValueError, match="no parameters with a meaning"):
        parameter_rows(setup)
    with pytest.raises(ValueError, match="no interval has a meaning"):
        parameter_rows(SimpleNamespace(model=make("physics", spiral, "pendulum", correction=3)))


def test_a_phase_portrait_has_both_fields():
    dataset = read("cubic_spiral", points=60)
    objective = OBJECTIVES["trajectory"]().for_target(dataset.target)
    setup = SimpleNamespace(
        model=make("neural_ode", dataset), objective=objective, batches=lambda *_: iter([dataset.test])
    )
    rows = phase_rows(setup)
    true = [row for row in rows if row["kind"] == "true field"]
    x, y = true[7]["x"], true[7]["y"]
    assert (true[7]["u"], true[7]["v"]) == pytest.approx((-0.1 * x**3 + 2 * y**3, -2 * x**3 - 0.1 * y**3), rel=1e-4)
    assert {row["kind"] for row in rows} == {"observed", "solved", "learned field", "true field"}


def test_a_one_step_net_is_euler_on_the_field_that_a_neural_pde_solves():
    make_dynamics, steps = partial(DYNAMICS["conv1d"], hidden=4), torch.arange(1.0, 4.0).expand(2, 3)
    stepper = MODELS["convnet_stepper"]((1, 20), 20, make_dynamics)
    u0, start = torch.randn(2, 1, 20), torch.zeros(2, 1)
    found = stepper(u0, start, None, steps)
    state, expected = u0[:, 0], []
    for _ in range(3):
        state = state + stepper.dynamics(torch.tensor(0.0), state)
        expected.append(state)
    torch.testing.assert_close(found, torch.stack(expected, dim=1))
    assert stepper.block.stats.nfe_forward == 3
    solved = MODELS["neural_pde"]((1, 20), 20, make_dynamics, TIGHT)
    solved.load_state_dict(stepper.state_dict())
    half = stepper.dynamics
    fine = ConfiguredSolve("radau5", rtol=1e-7, atol=1e-7)(half, u0[:, 0], [0.0, 1.0, 2.0, 3.0]).ys[1:].transpose(0, 1)
    torch.testing.assert_close(solved(u0, start, None, steps), fine, atol=1e-5, rtol=1e-4)
